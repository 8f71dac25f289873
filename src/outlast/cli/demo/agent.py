"""The agent of the demo: an ordinary durable task.

It knows nothing about the demo that kills its process. All that it does for the proof is to hand
each of its steps a witness, which writes down in the ledger that the step ran.
"""

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from outlast import TaskContext, task
from outlast.cli.demo import analysis, sources
from outlast.cli.demo.analysis import Outline, Review, Tally
from outlast.cli.demo.ledger import Witness
from outlast.cli.demo.report import Chapter, render

FILE_STEPS: Final = ("read", "functions", "imports")
"""What is done for every file, in this order."""

LAST_STEP: Final = ("report", 1)

APPROVAL: Final = "approval"

Step = tuple[str, int]
"""A step of the agent: its name, and its number among those of this name."""


def steps_of(files: int) -> list[Step]:
    """Return the agent's steps for so many files, in the order in which it takes them."""
    each = [(step, number) for number in range(1, files + 1) for step in FILE_STEPS]
    return [("survey", 1), *each, ("rank", 1), LAST_STEP]


@dataclass(frozen=True, slots=True)
class Order:
    """What the agent is to do: the input of its run. All paths are written as `sources` does.

    Attributes:
        known: what to take for these files instead of reading them.
    """

    root: str
    files: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    report: str
    ledger: str
    known: dict[str, Outline] = field(default_factory=dict[str, Outline])


@dataclass(frozen=True, slots=True)
class Done:
    """What the agent answers."""

    files: int
    report: str
    approved: bool


@task(name="demo.audit", title="read Python files and report on them")
async def audit(ctx: TaskContext[Order]) -> Done:
    """Read every file, ask for approval, and write a report."""
    order = ctx.input

    def witness(step: str, number: int = 1, file: str = "") -> Witness:
        return Witness(order.ledger, step, number, file, ctx.recovery_count)

    folders = await ctx.step("survey", survey, order.files, witness("survey"))
    await ctx.emit({"files": len(order.files), "folders": len(folders)})
    chapters: list[Chapter] = []
    for number, file in enumerate(order.files, 1):
        read, functions, imports = (witness(step, number, file) for step in FILE_STEPS)
        known = order.known.get(file)
        outline = await ctx.step("read", read_file, order.root, file, known, read)
        review = await ctx.step("functions", review_functions, outline, functions)
        tallies = await ctx.step("imports", count_imports, outline, imports)
        chapters.append(Chapter(file, outline, review, tallies))
        await ctx.emit(chapters[-1].finding())
    every_import = [tally for chapter in chapters for tally in chapter.imports]
    ranking = await ctx.step("rank", rank_imports, every_import, witness("rank"))
    await ctx.emit({"waiting": APPROVAL})
    approved = await ctx.wait(APPROVAL, bool)
    report = render(order.root, order.skipped, folders, chapters, ranking, approved=approved)
    await ctx.step("report", write_report, order.report, report, witness("report"))
    return Done(len(chapters), order.report, approved)


def survey(files: tuple[str, ...], witness: Witness) -> tuple[Tally, ...]:
    """Count the files of each directory."""
    with witness:
        return analysis.rank(Tally(str(PurePosixPath(file).parent), 1) for file in files)


def read_file(root: str, file: str, known: Outline | None, witness: Witness) -> Outline:
    """Read and parse a file; what cannot be read or parsed is an answer too."""
    with witness:
        if known is not None:
            return known
        try:
            return analysis.outline(sources.read_source(root, file))
        except sources.Unreadable as error:
            return Outline(problem=str(error))


def review_functions(outline: Outline, witness: Witness) -> Review:
    """Find the functions that want a second look."""
    with witness:
        return analysis.review(outline)


def count_imports(outline: Outline, witness: Witness) -> tuple[Tally, ...]:
    """Count what the file imports."""
    with witness:
        return analysis.rank_imports(outline)


def rank_imports(tallies: list[Tally], witness: Witness) -> tuple[Tally, ...]:
    """Rank what all files import."""
    with witness:
        return analysis.rank(tallies)


def write_report(file: str, report: str, witness: Witness) -> None:
    """Write the report, whole or not at all: a step may run more than once."""
    with witness:
        path = sources.located(file)
        draft = path.with_suffix(".draft")
        draft.write_text(report, encoding="utf-8")
        draft.replace(path)
