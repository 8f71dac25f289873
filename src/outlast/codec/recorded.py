"""Errors that were recorded, and come back when a handler is replayed.

The one rule: reading one runs no code of the stored data's choosing. Its class is one that the code
handed in, a builtin or one of ours, and it is made without `__init__`.
"""

import builtins
import dataclasses
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from outlast import errors as own
from outlast.codec.plain import Json, is_plain, to_text
from outlast.errors import CodecError, OutlastError, RunError, StepFailed, TaskFailed

ErrorClass: TypeAlias = type[BaseException]

MESSAGE_LIMIT: Final = 8_192
TRACEBACK_LIMIT: Final = 32_768
DETAILS_LIMIT: Final = 65_536
MEMBERS_LIMIT: Final = 100
DEPTH_LIMIT: Final = 10


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorRecord:
    """What is kept of an exception.

    Attributes:
        type: the name of its class, with the module unless that is `builtins`.
        message: its text.
        traceback: its traceback as text, with its causes; of a long one, the middle is left out.
        args: its `args` where they are plain JSON and short, else None.
        fields: those of its attributes that are plain JSON, if they are short together.
        members: the records of the exceptions in a group.
    """

    type: str
    message: str
    traceback: str = ""
    args: list[Json] | None = None
    fields: dict[str, Json] = dataclasses.field(default_factory=dict[str, "Json"])
    members: tuple["ErrorRecord", ...] = ()

    @classmethod
    def from_exception(cls, error: BaseException, *, depth: int = DEPTH_LIMIT) -> "ErrorRecord":
        """Return the record of an exception; this never raises, whatever the exception is like."""
        return cls(
            type=_name_of(type(error)),
            message=_message_of(error),
            traceback=_text(lambda: "".join(traceback.format_exception(error)), TRACEBACK_LIMIT),
            args=_args_of(error),
            fields=_fields_of(error),
            members=tuple(
                cls.from_exception(one, depth=depth - 1)
                for one in _members_of(error)[: MEMBERS_LIMIT if depth else 0]
            ),
        )

    def to_exception(self, errors: Sequence[ErrorClass] = ()) -> BaseException:
        """Return the exception as its own class, or as `StepFailed` where that is not known.

        Known are the builtin exceptions, those of outlast, and those in `errors`. It is made
        without `__init__`, so of its attributes it has those that were recorded.
        """
        for known in (*errors, *_builtin_errors(self.type), *_own_errors()):
            error = self._made_as(known, errors) if _is_called(known, self.type) else None
            if error is not None:
                return error
        return StepFailed(self.type, self.message, self.traceback)

    def _made_as(self, cls: ErrorClass, errors: Sequence[ErrorClass]) -> BaseException | None:
        make: Callable[..., BaseException] = cls.__new__
        args: list[Any] = list(self.args or ())
        try:
            if issubclass(cls, BaseExceptionGroup):
                error = make(cls, *args, [member.to_exception(errors) for member in self.members])
            elif cls.__module__ == "builtins":
                error = make(cls, *args)  # This gives an OSError its errno.
            else:
                error = make(cls)
                error.args = tuple(args)
            vars(error).update(self.fields)
            if isinstance(error, TaskFailed) and "error" in self.fields:
                error.error = RunError(**vars(error)["error"])
            if _message_of(error) != self.message:
                error.args = (self.message,)
        except Exception:  # noqa: BLE001  # its `__new__` may ask for what was not recorded
            return None
        return error

    def dump(self) -> dict[str, Json]:
        """Return the record as plain JSON."""
        data: dict[str, Json] = {"type": self.type, "message": self.message}
        if self.traceback:
            data["traceback"] = self.traceback
        if self.args is not None:
            data["args"] = self.args
        if self.fields:
            data["fields"] = self.fields
        if self.members:
            data["members"] = [member.dump() for member in self.members]
        return data

    @classmethod
    def load(cls, data: Json) -> "ErrorRecord":
        """Return the record that `dump` gave this data for.

        Raises:
            CodecError: the data is not that of a recorded error.
        """
        record: dict[str, Any] = data if isinstance(data, dict) else {}
        try:
            return cls(
                type=_checked(record["type"], str),
                message=_checked(record["message"], str),
                traceback=_checked(record.get("traceback", ""), str),
                args=_checked(record["args"], list) if "args" in record else None,
                fields=_checked(record.get("fields", {}), dict),
                members=tuple(map(cls.load, _checked(record.get("members", []), list))),
            )
        except (KeyError, TypeError) as error:
            raise CodecError(f"not a recorded error: {error!r}", "error") from error


def _is_group(error: BaseException) -> bool:
    return isinstance(error, BaseExceptionGroup)


def _checked(data: Any, kind: type) -> Any:
    if not isinstance(data, kind):
        raise TypeError(f"{type(data).__name__} instead of {kind.__name__}")
    return data


def _name_of(cls: ErrorClass) -> str:
    name = cls.__qualname__
    return name if cls.__module__ == "builtins" else f"{cls.__module__}.{name}"


def _is_called(cls: ErrorClass, name: str) -> bool:
    """Tell whether the name is that of the class; `__main__` is the name of any module."""
    if _name_of(cls) == name:
        return True
    module = name.removesuffix(f".{cls.__qualname__}")
    return module != name and "__main__" in (module, cls.__module__)


def _builtin_errors(name: str) -> Iterator[ErrorClass]:
    # Not those that end a thread or a program: nobody means to bring them back.
    known = getattr(builtins, name, None)
    if isinstance(known, type) and issubclass(known, Exception):
        yield known


def _own_errors() -> Iterator[ErrorClass]:
    for known in vars(own).values():
        if isinstance(known, type) and issubclass(known, OutlastError):
            yield known


def _message_of(error: BaseException) -> str:
    return _text(lambda: str(error), MESSAGE_LIMIT)


def _text(make: Callable[[], str], limit: int) -> str:
    """Return a text that can be written, without its middle where it is longer than the limit."""
    try:
        text = make().encode(errors="backslashreplace").decode()
    except Exception as error:  # noqa: BLE001  # a `__str__` that fails must not hide the error
        return f"<no text: {type(error).__name__}>"
    if len(text) <= limit:
        return text
    mark = f"\n... {len(text) - limit} characters left out ...\n"
    half = (limit - len(mark)) // 2
    return f"{text[:half]}{mark}{text[-half:]}"


def _members_of(error: BaseException) -> Sequence[BaseException]:
    members: Sequence[BaseException] = getattr(error, "exceptions", ()) if _is_group(error) else ()
    return members


def _args_of(error: BaseException) -> list[Json] | None:
    try:
        args: list[Any] = list(error.args)
        if _is_group(error):
            args = args[:1]  # The rest are its members.
        elif isinstance(error, OSError):
            reduced: Any = error.__reduce__()
            args = list(reduced[1])  # Its `args` lack the name of the file.
    except Exception:  # noqa: BLE001  # its class may say of itself what it likes
        return None
    return args if _is_kept(args) else None


def _fields_of(error: BaseException) -> dict[str, Json]:
    fields = {name: value for name, value in vars(error).items() if is_plain(value)}
    if isinstance(error, TaskFailed):
        fields["error"] = {name: getattr(error.error, name) for name in RunError.__slots__}
    return fields if _is_kept(fields) else {}


def _is_kept(details: Any) -> bool:
    return is_plain(details) and len(to_text(details)) <= DETAILS_LIMIT
