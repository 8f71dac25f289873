"""What the demo shows: at a terminal with Rich, or to a machine as JSON.

The one rule that must not be broken: any path can be shown, whatever bytes it is made of.
"""

import shlex
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from outlast.cli.demo.chaos import Kill
from outlast.cli.demo.proof import Item
from outlast.cli.demo.sources import Sources, shown
from outlast.cli.demo.stage import Outcome


class Silence:
    """An audience that shows nothing."""

    def opens(self, *, is_disturbed: bool) -> None:
        """Show nothing."""

    def hears(self, item: Item) -> None:
        """Show nothing."""

    def sees(self, kill: Kill) -> None:
        """Show nothing."""

    def approves(self) -> None:
        """Show nothing."""


class Screen:
    """An audience at a terminal."""

    def __init__(self, console: Console, sources: Sources, seed: int) -> None:
        self._console, self._sources, self._seed = console, sources, seed
        self._progress = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("files  {task.fields[file]}"),
            console=console,
        )
        self._bar = TaskID(0)

    @contextmanager
    def lit(self) -> Generator[None, None, None]:
        """Show the progress while the demo is played."""
        files, root = len(self._sources.files), escape(shown(self._sources.root))
        self._console.print(f"An agent reads {files:,} Python files under [bold]{root}[/bold].")
        self._console.print(f"Its process is killed at random moments, by the seed {self._seed}.\n")
        with self._progress:
            yield

    def opens(self, *, is_disturbed: bool) -> None:
        """Show a bar for the run that begins."""
        name = "killed run" if is_disturbed else "undisturbed run"
        self._bar = self._progress.add_task(name, total=len(self._sources.files), file="")

    def hears(self, item: Item) -> None:
        """Move the bar with each file."""
        match item.value:
            case {"file": str(file)}:
                self._progress.update(self._bar, advance=1, file=escape(shown(file)))
            case {"waiting": what}:
                self._progress.update(self._bar, file=f"waits for {what}")
            case _:
                pass

    def sees(self, kill: Kill) -> None:
        """Show a line for the kill once the run goes on."""
        if kill.resumed_after is None:
            return
        where = "in the middle of" if kill.is_inside_step else "after"
        step = f"{kill.line.step} {shown(kill.line.file)}".strip()
        self._progress.console.print(
            f"[red]kill -9 {kill.pid}[/red] {where} {escape(step)}; "
            f"went on after [bold]{kill.resumed_after:.2f} s[/bold]"
        )

    def approves(self) -> None:
        """Show that the agent gets what it waits for."""
        self._progress.update(self._bar, file="approved")


def show(console: Console, outcome: Outcome) -> None:
    """Show what came out, where things are, and what to try next."""
    table = Table(title="What was checked", title_justify="left")
    table.add_column("")
    table.add_column("check")
    table.add_column("what was seen")
    for check in outcome.checks:
        mark = "[green]holds[/green]" if check.passed else "[bold red]FAILS[/bold red]"
        table.add_row(mark, escape(check.name), escape(check.seen))
    console.print(table)
    if outcome.changed:
        console.print(
            f"{len(outcome.changed)} files changed between the two runs: the undisturbed one was "
            "given what the other had read of them."
        )
    if outcome.accidents:
        console.print(f"{outcome.accidents} workers died by themselves, and were replaced.")
    verdict = (
        "[green]Nothing was lost[/green]" if outcome.passed else "[red]Not all of it holds[/red]"
    )
    console.print(f"{verdict}, after {outcome.duration:.1f} s.\n")
    for name, place in (("database", outcome.url), ("report", str(outcome.report))):
        console.print(f"{name:<9} {escape(place)}", soft_wrap=True)
    console.print("\nWhat to try next:")
    for command in next_commands(outcome):
        console.print(f"  {escape(command)}", soft_wrap=True, highlight=False)


def next_commands(outcome: Outcome) -> list[str]:
    """Return commands that look at what the demo left behind."""
    return [
        f"outlast runs show {outcome.run_id} --url {shlex.quote(outcome.url)}",
        f"outlast runs list --url {shlex.quote(outcome.url)}",
        "outlast demo PATH     # on files of your own",
    ]


def summary(sources: Sources, seed: int, outcome: Outcome) -> dict[str, Any]:
    """Return what came out, for machines; durations in seconds."""
    times = sorted(kill.resumed_after for kill in outcome.kills if kill.resumed_after is not None)
    return {
        "passed": outcome.passed,
        "path": shown(sources.root),
        "files": len(sources.files),
        "seed": seed,
        "run": outcome.run_id,
        "database": outcome.url,
        "report": str(outcome.report),
        "duration_s": round(outcome.duration, 3),
        "kills": [
            {
                "pid": kill.pid,
                "step": kill.line.step,
                "number": kill.line.number,
                "file": shown(kill.line.file),
                "in_step": kill.is_inside_step,
                "resumed_after_s": kill.resumed_after and round(kill.resumed_after, 4),
            }
            for kill in outcome.kills
        ],
        "resumed_after_s": {"median": times[len(times) // 2], "max": times[-1]} if times else None,
        "checks": [
            {"name": check.name, "passed": check.passed, "seen": check.seen}
            for check in outcome.checks
        ],
        "changed": [shown(file) for file in outcome.changed],
        "accidents": outcome.accidents,
    }
