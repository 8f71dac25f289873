"""The commands of `outlast`, and their arguments.

What a command does is imported when it runs, so that `--help` is quick. Every command has `--json`.
The one rule that must not be broken: a mistake of the caller's ends with a message and status 2.
"""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from outlast.cli.output import fail, tolerate_any_text

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]
Id = Annotated[str, typer.Argument(help="The run's id.", show_default=False)]
Url = Annotated[
    str | None,
    typer.Option(help="Where runs are kept; else $OUTLAST_URL, else sqlite:///outlast.db."),
]
Namespace = Annotated[str, typer.Option(help="Whose runs.")]
Reason = Annotated[str | None, typer.Option(help="Why; it is kept with the run.")]

app: Final = typer.Typer(
    name="outlast",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
runs: Final = typer.Typer(
    name="runs", help="Look at runs, and tell them something.", no_args_is_help=True
)
app.add_typer(runs)


@app.callback()
def prepare() -> None:
    """Durable tasks for AI agents."""
    tolerate_any_text()


@app.command()
def demo(
    path: Annotated[
        Path | None, typer.Argument(help="What to read; else a part of Python.", show_default=False)
    ] = None,
    *,
    seed: Annotated[int | None, typer.Option(help="Chooses when to kill.")] = None,
    db: Annotated[
        str | None,
        typer.Option(help="A file or URL for the database; else in a new temporary directory."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let an agent read every Python file under PATH, and kill its process again and again.

    Ends with status 0 if nothing was lost, 1 if something was, and 2 if PATH holds nothing to read.
    """
    from outlast.cli.demo import command

    command.run(path, seed, db, as_json=as_json)


@app.command()
def worker(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE[:APP]",
            help="What to import: it declares the tasks, and may have an app of its own.",
            show_default=False,
        ),
    ],
    *,
    url: Url = None,
    queue: Annotated[list[str], typer.Option(help="Whose runs it takes; may be repeated.")] = [  # noqa: B006 - typer copies it
        "default"
    ],
    concurrency: Annotated[int, typer.Option(help="How many runs at a time.")] = 10,
    grace: Annotated[float, typer.Option(help="Seconds that runs have to end after SIGTERM.")] = 10,
    namespace: Namespace = "default",
    as_json: AsJson = False,
) -> None:
    """Run what is due, until SIGTERM or Ctrl-C.

    Then it takes nothing new, gives its runs GRACE seconds to end, and hands the rest back.
    Told so a second time, it ends at once, and others go on with its runs.
    """
    from outlast.cli import worker as command

    _await(
        command.work(
            target,
            url,
            queues=queue,
            concurrency=concurrency,
            grace=grace,
            namespace=namespace,
            said=_said(context, "url", "queue", "concurrency", "grace", "namespace"),
            as_json=as_json,
        ),
        as_json=as_json,
    )


@app.command()
def doctor(
    url: Annotated[
        str | None, typer.Argument(help="What to examine; else as --url.", show_default=False)
    ] = None,
    *,
    option: Annotated[
        str | None,
        typer.Option(
            "--url", help="Where runs are kept; else $OUTLAST_URL, else sqlite:///outlast.db."
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read everything, whatever it takes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with a SQLite file, and what to do; it changes nothing.

    Ends with status 0 if nothing is, or nothing but warnings; with 1 if something is wrong.
    """
    from outlast.cli import doctor as command

    _await(command.examine(url or option, is_full=full, as_json=as_json), as_json=as_json)


@runs.command("list")
def list_runs(
    *,
    url: Url = None,
    status: Annotated[list[str], typer.Option(help="Any of these; may be repeated.")] = [],  # noqa: B006 - typer copies it
    task: Annotated[str | None, typer.Option(help="Of this task only.")] = None,
    tag: Annotated[list[str], typer.Option(help="NAME=VALUE; all of these.")] = [],  # noqa: B006 - typer copies it
    limit: Annotated[int, typer.Option(help="At most so many.")] = 50,
    after: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    namespace: Namespace = "default",
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    from outlast.cli import runs as command

    _await(
        command.list_runs(
            url,
            namespace,
            status=status,
            task=task,
            tags=tag,
            limit=limit,
            after=after,
            as_json=as_json,
        ),
        as_json=as_json,
    )


@runs.command("show")
def show_run(
    id: Id,
    *,
    url: Url = None,
    last: Annotated[int, typer.Option(min=0, help="So many entries of its journal.")] = 20,
    namespace: Namespace = "default",
    as_json: AsJson = False,
) -> None:
    """Show a run, and the newest entries of its journal."""
    from outlast.cli import runs as command

    _await(command.show_run(url, namespace, id, last=last, as_json=as_json), as_json=as_json)


@runs.command("signal")
def signal_run(
    id: Id,
    name: Annotated[str, typer.Argument(help="What the run waits for.", show_default=False)],
    value: Annotated[str, typer.Argument(help="JSON.")] = "null",
    *,
    url: Url = None,
    namespace: Namespace = "default",
    as_json: AsJson = False,
) -> None:
    """Send a run a signal."""
    from outlast.cli import runs as command

    _await(command.signal_run(url, namespace, id, name, value, as_json=as_json), as_json=as_json)


@runs.command("cancel")
def cancel_run(
    id: Id,
    *,
    reason: Reason = None,
    url: Url = None,
    namespace: Namespace = "default",
    as_json: AsJson = False,
) -> None:
    """Ask a run to stop; its handler may still clean up, or end in its own way."""
    from outlast.cli import runs as command

    _await(command.cancel_run(url, namespace, id, reason, as_json=as_json), as_json=as_json)


@runs.command("abort")
def abort_run(
    id: Id,
    *,
    reason: Reason = None,
    url: Url = None,
    namespace: Namespace = "default",
    as_json: AsJson = False,
) -> None:
    """End a run now, whoever runs it; nothing more of it is recorded."""
    from outlast.cli import runs as command

    _await(command.abort_run(url, namespace, id, reason, as_json=as_json), as_json=as_json)


def _said(context: typer.Context, *names: str) -> list[str]:
    """Return those of the options that the command line has."""
    sources = {name: context.get_parameter_source(name) for name in names}
    return [f"--{name}" for name, source in sources.items() if source and source.name != "DEFAULT"]


def _await(command: Coroutine[Any, Any, None], *, as_json: bool) -> None:
    """Do what the command does; what the library refuses is a message and a status."""
    from outlast import OutlastError, UsageError

    try:
        asyncio.run(command)
    except UsageError as error:
        fail(str(error), status=2, as_json=as_json)
    except OutlastError as error:
        fail(str(error), status=1, as_json=as_json)
    except KeyboardInterrupt:
        fail("stopped", status=130, as_json=as_json)
