"""An error that was recorded comes back as its own class where the code knows it."""

import errno
from pathlib import Path
from typing import Any, Self

import pytest

from outlast import errors
from outlast.codec import ErrorRecord, from_text, to_text
from outlast.errors import (
    CodecError,
    Conflict,
    RunError,
    StepFailed,
    TaskFailed,
    TaskNotFound,
    UsageError,
)


class ApiError(Exception):
    def __init__(self, code: int, *, client: object) -> None:
        super().__init__(f"code {code}")
        self.code, self.client = code, client


class Demanding(Exception):
    def __new__(cls, one: int, two: int) -> Self:
        return super().__new__(cls, one, two)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Hostile(Exception):
    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError


class Irreducible(OSError):
    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


def recorded(error: BaseException) -> ErrorRecord:
    """Return the record of the error as it is read from the store."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011  # of whatever class it is
        raise error
    record = ErrorRecord.from_exception(caught.value)
    again = ErrorRecord.load(from_text(to_text(record.dump())))
    assert again == record
    return again


def brought_back(error: BaseException, *known: type[BaseException]) -> Any:
    return recorded(error).to_exception(known)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("wrong"),
        ValueError(),
        KeyError("name"),
        TypeError("one", 2),
        TimeoutError("late"),
        RuntimeError("\u00e9"),
        TaskNotFound("r-1"),
        UsageError("use it"),
        CodecError("not so", "result.a"),
        Conflict("task/1", "revision", 5, 7),
        StepFailed("a.B", "no"),
    ],
)
def test_a_builtin_or_own_error_comes_back_as_it_was(error: Exception) -> None:
    again = brought_back(error)

    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def test_an_error_of_the_system_has_its_number_and_file() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Path("/no/such/file").read_text(encoding="utf-8")

    again = brought_back(caught.value)

    assert type(again) is FileNotFoundError
    assert (again.errno, again.filename) == (errno.ENOENT, "/no/such/file")
    assert str(again) == str(caught.value)


def test_a_failed_task_has_its_error() -> None:
    again = brought_back(TaskFailed("run 'r-1' failed", RunError("ValueError", "no", "at", 3)))

    assert type(again) is TaskFailed
    assert (again.error.type, again.error.attempts) == ("ValueError", 3)


def test_a_known_class_is_made_without_calling_its_init() -> None:
    again = brought_back(ApiError(5, client=object()), ValueError, ApiError)

    assert type(again) is ApiError
    assert (str(again), again.code) == ("code 5", 5)
    assert not hasattr(again, "client")


def test_an_unknown_class_comes_back_as_a_failed_step() -> None:
    again = brought_back(ApiError(5, client=None))

    assert type(again) is StepFailed
    assert again.type.endswith("test_codec_errors.ApiError")
    assert again.message == "code 5"
    assert again.traceback.startswith("Traceback (most recent call last):")
    assert again.traceback.rstrip().endswith("ApiError: code 5")


def test_a_class_is_known_by_its_module_and_name() -> None:
    class ApiError(Exception):
        pass

    theirs = type("ApiError", (Exception,), {"__module__": "elsewhere"})
    program = type("ApiError", (Exception,), {"__module__": "__main__"})
    error = globals()["ApiError"](5, client=None)

    assert type(brought_back(error, ApiError, theirs)) is StepFailed
    assert type(brought_back(error, program)) is program
    assert type(brought_back(program("a"), theirs)) is theirs


def test_a_class_whose_new_asks_for_more_comes_back_as_a_failed_step() -> None:
    assert type(brought_back(Demanding(1, 2), Demanding)) is StepFailed


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_the_program_is_not_brought_back(error: BaseException) -> None:
    assert type(brought_back(error)) is StepFailed


def test_nothing_is_looked_up_by_a_stored_name() -> None:
    for name in ("subprocess.CalledProcessError", "eval", "object", "outlast.errors.Unwound"):
        record = ErrorRecord.load({"type": name, "message": "", "args": ["x"]})

        assert type(record.to_exception()) is StepFailed


def test_a_group_comes_back_with_its_members() -> None:
    inner = ExceptionGroup("inner", [KeyError("k")])
    group = ExceptionGroup("outer", [ValueError("v"), ApiError(5, client=None), inner])

    again = brought_back(group)

    assert type(again) is ExceptionGroup
    assert (again.message, len(again.exceptions)) == ("outer", 3)
    assert [type(one) for one in again.exceptions] == [ValueError, StepFailed, ExceptionGroup]
    assert isinstance(again.exceptions[2].exceptions[0], KeyError)


def test_a_group_without_end_is_cut() -> None:
    group: Exception = ValueError("v")
    for _ in range(30):
        group = ExceptionGroup("deeper", [group])

    assert type(brought_back(group)) is ExceptionGroup


def test_notes_come_back() -> None:
    error = ValueError("wrong")
    error.add_note("look here")

    assert brought_back(error).__notes__ == ["look here"]


def test_arguments_that_are_not_plain_are_replaced_by_the_message() -> None:
    again = brought_back(ValueError(b"\xff", object))

    assert again.args == (str(ValueError(b"\xff", object)),)


def test_a_message_that_cannot_be_had_or_written_hides_nothing() -> None:
    assert recorded(Mute()).message == "<no text: RuntimeError>"
    assert recorded(ValueError("\ud800")).message == "\\ud800"


@pytest.mark.parametrize("cls", [Hostile, Irreducible])
def test_a_class_that_will_not_say_its_arguments_hides_nothing(cls: type[Exception]) -> None:
    record = recorded(cls("down"))

    assert (record.message, record.args) == ("down", None)
    assert str(record.to_exception([cls])).endswith("down")


def test_long_texts_are_cut_in_the_middle() -> None:
    record = recorded(ValueError("begin " + "x" * 1_000_000 + " end"))

    assert len(record.message) <= 8_192
    assert record.message.startswith("begin ")
    assert record.message.endswith(" end")
    assert "characters left out" in record.message
    assert len(record.traceback) <= 32_768
    assert record.args is None
    assert str(record.to_exception()) == record.message


@pytest.mark.parametrize(
    "data", [None, [], {}, {"type": 1, "message": ""}, {"type": "a", "message": "", "args": 1}]
)
def test_data_of_another_shape_is_refused(data: Any) -> None:
    with pytest.raises(CodecError, match="not a recorded error"):
        ErrorRecord.load(data)


def test_every_own_error_comes_back_as_itself() -> None:
    own = [
        known
        for known in vars(errors).values()
        if isinstance(known, type) and issubclass(known, errors.OutlastError)
    ]
    assert len(own) > 15

    for known in own:
        record = ErrorRecord(type=f"{known.__module__}.{known.__qualname__}", message="why")

        again = record.to_exception()

        assert type(again) is known
        assert again.args == ("why",)
