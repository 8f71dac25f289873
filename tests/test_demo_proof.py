"""The demo's proof must fail wherever one of its claims is wrong: each test makes one wrong."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from outlast.cli.demo.agent import steps_of
from outlast.cli.demo.chaos import MAX_DELAY, MAX_KILLS, MIN_KILLS, Kill, plan
from outlast.cli.demo.ledger import Line, Mark
from outlast.cli.demo.proof import Account, Item, Recorded, prove

FILES = ("a.py", "b.py")
DEATHS = 5


def line(mark: Mark, place: int, life: int) -> Line:
    step, number = steps_of(len(FILES))[place]
    file = FILES[number - 1] if step in ("read", "functions", "imports") else ""
    return Line(mark, step, number, file, pid=100 + life, recovery=life, at=float(place))


def account() -> Account:
    """Return a run of nine steps; its process dies in the middle of each of the first five."""
    history, lines = [Recorded(1, "turn_began", {"turn": 1})], list[Line]()
    for place, (step, number) in enumerate(steps_of(len(FILES))):
        life = min(place, DEATHS)
        if place < DEATHS:
            lines.append(line("began", place, life))
            history.append(Recorded(len(history) + 1, "attempt_began", {"died": True}))
            life += 1
        lines += [line("began", place, life), line("ended", place, life)]
        data = {"kind": "step", "name": step, "number": number, "value": None}
        history.append(Recorded(len(history) + 1, "checkpointed", data))
    values = [{"files": 2}, {"file": "a.py"}, {"file": "b.py"}, {"waiting": "approval"}]
    stream = [Item(offset, value) for offset, value in enumerate(values, 1)]
    return Account(FILES, "completed", history, stream, stream, lines, b"# report")


def kills() -> list[Kill]:
    return [Kill(100 + life, line("began", life, life), -9, 0.0, 0.3) for life in range(DEATHS)]


def failed(disturbed: Account, done: list[Kill] | None = None) -> list[str]:
    checks = prove(disturbed, account(), kills() if done is None else done)
    return [check.name for check in checks if not check.passed]


def test_a_run_that_lost_nothing_passes_every_check() -> None:
    assert failed(account()) == []


def test_four_kills_are_not_enough() -> None:
    assert failed(account(), kills()[1:]) == ["at least 5 workers were killed with SIGKILL"]


def test_a_worker_that_ended_otherwise_was_not_killed() -> None:
    done = [*kills()[1:], replace(kills()[0], status=-15)]

    assert failed(account(), done) == ["at least 5 workers were killed with SIGKILL"]


def test_a_kill_that_nobody_went_on_from_is_noticed() -> None:
    done = [*kills()[1:], replace(kills()[0], resumed_after=None)]

    assert failed(account(), done) == ["after each kill the run went on"]


def test_a_run_that_failed_is_noticed() -> None:
    assert failed(replace(account(), ending="TaskFailed: ...")) == ["the run completed"]


def without_a_step(seen: Account) -> Account:
    return replace(seen, history=seen.history[:-1])


def without_a_file_in_the_stream(seen: Account) -> Account:
    shorter = [item for item in seen.live if item.value != {"file": "b.py"}]
    return replace(seen, live=shorter, late=shorter)


def without_a_file_in_the_ledger(seen: Account) -> Account:
    return replace(seen, lines=[one for one in seen.lines if one.file != "b.py"])


def with_a_step_that_failed(seen: Account) -> Account:
    last = seen.history[-3]
    wrong = replace(last, data={**last.data, "error": {"type": "OSError"}})
    return replace(seen, history=[*seen.history[:-3], wrong, *seen.history[-2:]])


@pytest.mark.parametrize(
    "spoil",
    [
        without_a_step,
        without_a_file_in_the_stream,
        without_a_file_in_the_ledger,
        with_a_step_that_failed,
    ],
)
def test_a_file_that_was_not_handled_is_noticed(spoil: Callable[[Account], Account]) -> None:
    assert "every file was handled" in failed(spoil(account()))


def test_a_step_that_ran_again_in_a_later_process_is_noticed() -> None:
    again = [*account().lines, line("began", 0, DEATHS)]

    assert failed(replace(account(), lines=again)) == [
        "no recorded step ran again after its record"
    ]


def test_a_step_that_ran_twice_in_one_process_is_noticed() -> None:
    again = [*account().lines, line("began", 8, DEATHS)]

    assert failed(replace(account(), lines=again)) == [
        "no recorded step ran again after its record"
    ]


def test_a_record_without_a_run_is_noticed() -> None:
    lines = [one for one in account().lines if one.step != "rank"]

    assert failed(replace(account(), lines=lines)) == [
        "no recorded step ran again after its record"
    ]


def test_a_journal_that_knows_of_no_death_is_noticed() -> None:
    seen = account()
    history = [entry for entry in seen.history if entry.type != "attempt_began"]
    once = {(one.mark, one.step, one.number): replace(one, recovery=0) for one in seen.lines}

    assert failed(replace(seen, history=history, lines=[*once.values()])) == [
        "no recorded step ran again after its record"
    ]


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_a_gap_in_the_stream_is_noticed(lost: int) -> None:
    seen = account()
    live = [*seen.live[:lost], *seen.live[lost + 1 :]]

    assert "the stream is complete" in failed(replace(seen, live=live, late=live))


def test_an_item_read_twice_is_noticed() -> None:
    seen = account()

    assert failed(replace(seen, live=[*seen.live, seen.live[-1]])) == ["the stream is complete"]


def test_a_late_reader_that_gets_something_else_is_noticed() -> None:
    seen = account()
    late = [*seen.late[:-1], replace(seen.late[-1], value={"waiting": "rain"})]

    assert failed(replace(seen, late=late)) == ["the stream is complete"]


@pytest.mark.parametrize("report", [b"# reporT", b"# report\n", b""])
def test_another_report_is_noticed(report: bytes) -> None:
    assert failed(replace(account(), report=report)) == [
        "the report is that of an undisturbed run, byte for byte"
    ]


@pytest.mark.parametrize("files", [1, 2, 40, 10_000])
def test_a_plan_has_enough_kills_in_order_and_none_at_the_last_step(files: int) -> None:
    for seed in range(10):
        moments = plan(files, seed)
        places = [steps_of(files).index(moment.step) for moment in moments]

        assert MIN_KILLS <= len(moments) <= MAX_KILLS
        assert places == sorted(set(places))
        assert places[-1] < len(steps_of(files)) - 1
        assert all(0 <= moment.delay <= MAX_DELAY for moment in moments)


def test_the_seed_chooses_the_moments() -> None:
    assert plan(40, seed=1) == plan(40, seed=1) != plan(40, seed=2)
