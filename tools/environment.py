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
NEWEST_OLD_PIP = (25, 1)  # the first that understands `--group`


def main(want: str) -> None:
    """Set up `want`, unless what is there was made from the same requirements."""
    VENV.mkdir(exist_ok=True)
    with (VENV / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        digest = requirements_digest(want)
        stamp = VENV / f"{want}.stamp"
        if works() and stamp.exists() and stamp.read_text() == digest:
            stamp.touch()
            return
        stamp.unlink(missing_ok=True)
        if not works():
            create()
        install(want)
        stamp.write_text(digest)


def requirements_digest(want: str) -> str:
    """Digest the parts of `pyproject.toml` that decide what is installed."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    parts: dict[str, object] = {name: config[name] for name in ("build-system", "project")}
    if want == "dev":
        parts["dependency-groups"] = config["dependency-groups"]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def works() -> bool:
    """Tell whether the environment has an interpreter that starts, and pip."""
    if not PYTHON.exists():
        return False
    asked = subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False)
    return asked.returncode == 0


def create() -> None:
    """Create the environment in place: the lock that we hold lies in it."""
    print(f"creating .venv with Python {sys.version.split()[0]}", flush=True)
    for entry in ("bin", "include", "lib", "lib64"):
        remove(VENV / entry)
    venv.create(VENV, with_pip=True)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole directory, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        for entry in path.iterdir():
            remove(entry)
        path.rmdir()


def install(want: str) -> None:
    """Install the package in place, and for `dev` the tools, as `pyproject.toml` names them."""
    print(f"installing outlast and its {want} dependencies", flush=True)
    if want == "dev":
        pip("--upgrade", "pip>=" + ".".join(map(str, NEWEST_OLD_PIP)))
        pip("--editable", ".", "--group", "dev")
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
