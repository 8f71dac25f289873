"""The command `outlast`.

`main` imports the rest when it is called: the demo's worker lives in this package, and starts
without what only the command needs.
"""


def main() -> None:
    """Run the command with the arguments of this process."""
    from outlast.cli.commands import app

    app()
