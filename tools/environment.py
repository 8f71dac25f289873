"""Make `.venv` hold what a verb of the Makefile needs: `core`, or `dev` with every tool.

One rule: whoever finds a stamp finds a complete environment.
So a stamp is written last, a lock lets one setup run at a time, and what works is never cleared.
Only the standard library is used, because nothing else is there yet.
"""

import fcntl
import hashlib
import json
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
OLDEST_PIP = "25.1"  # the first that understands `--group`


def main(want: str) -> None:
    """Set up `want`, unless what is there was made from the same requirements."""
    with Path(__file__).open() as this:
        fcntl.flock(this, fcntl.LOCK_EX)
        if not works():
            create()
        ensure("core")
        if want == "dev":
            ensure("dev")


def ensure(part: str) -> None:
    """Install one part, unless it is there as `pyproject.toml` names it."""
    digest = requirements_digest(part)
    stamp = VENV / f"{part}.stamp"
    if not stamp.exists() or stamp.read_text() != digest:
        stamp.unlink(missing_ok=True)
        print(f"installing outlast: {part}", flush=True)
        install(part)
        stamp.write_text(digest)
    # A touched stamp tells make that it is newer than what it was made from.
    stamp.touch()


def requirements_digest(part: str) -> str:
    """Digest the tables of `pyproject.toml` that decide what the part installs."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tables = ["dependency-groups"] if part == "dev" else ["build-system", "project"]
    told = json.dumps([config[table] for table in tables], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def works() -> bool:
    """Tell whether the environment has an interpreter that starts, and pip."""
    if not PYTHON.exists():
        return False
    asked = subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False)
    return asked.returncode == 0


def create() -> None:
    """Create the environment, in place of one that does not work."""
    print(f"creating .venv with Python {sys.version.split()[0]}", flush=True)
    venv.create(VENV, clear=True, with_pip=True)


def install(part: str) -> None:
    """Install the package in place, or for `dev` the tools beside it.

    The tools leave the package alone: somebody may be running it.
    """
    if part == "dev":
        pip("--upgrade", f"pip>={OLDEST_PIP}")
        pip("--group", "dev")
    else:
        pip("--editable", ".")


def pip(*arguments: str) -> None:
    """Run `pip install`, and stop with its exit code if it fails."""
    quiet = ["--quiet", "--disable-pip-version-check"]
    command = [str(PYTHON), "-m", "pip", "install", *quiet, *arguments]
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main(sys.argv[1])
