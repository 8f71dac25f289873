"""Codecs: values of an annotated type to JSON, and back.

The one rule: a codec lets no value pass that would not come back as it was. It does not trust the
type for that, nor pydantic: what it writes, it reads back and compares, unless it is plain JSON.
"""

import contextlib
import functools
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast

import pydantic_core
from pydantic import TypeAdapter
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic_core import SchemaError, SchemaSerializer, SchemaValidator, ValidationError

from outlast.codec import paths, plain, sameness, schema, signatures
from outlast.codec.plain import Json
from outlast.codec.unfit import FORM, Unfit, refuse_unfit
from outlast.errors import CodecError, UsageError

T = TypeVar("T")

_CODECS_KEPT: Final = 1024
_SCALARS: Final = frozenset({str, int, bool, type(None)})


class Codec(Generic[T]):
    """How the values of one annotation are written as JSON and read back.

    Attributes:
        annotation: the type, as it was annotated.
    """

    __slots__ = ("_allows_nan", "_plain_types", "_typed", "annotation")

    def __init__(self, annotation: Any) -> None:
        self.annotation: Any = annotation
        self._typed = None if _is_untyped(annotation) else _Typed(annotation)
        self._plain_types = _plain_types(annotation)
        members = (annotation, *typing.get_args(annotation))
        self._allows_nan = any(member is float for member in members)

    def __repr__(self) -> str:
        return f"Codec({signatures.name_of(self.annotation)})"

    def dump(self, value: T, *, root: str = "result") -> Json:
        """Return the value as plain JSON, which shares nothing with it that can be changed.

        Raises:
            CodecError: the value would not come back as it was. The error has the path to the part
                that would not, from `root`, the value's name.
        """
        if type(value) in self._plain_types and self._is_plain(value):
            return plain.copied(cast("Json", value))
        if self._typed is None:
            raise plain.refusal(value, root) or CodecError(f"{root} changed meanwhile", root)
        return self._typed.dump(value, root)

    def load(self, data: Json, *, root: str = "result") -> T:
        """Return the value that `dump` gave this data for; each call makes another.

        Raises:
            CodecError: the data does not fit the type, which may have changed since.
        """
        if self._typed is None or type(data) in self._plain_types:
            return cast("T", plain.copied(data))
        return cast("T", self._typed.load(data, root))

    def _is_plain(self, value: object) -> bool:
        return plain.is_plain(value) or (self._allows_nan and type(value) is float)


class _Typed:
    """The reader and the writer of a type, fitted to each other."""

    __slots__ = ("_name", "_reader", "_writer")

    def __init__(self, annotation: Any) -> None:
        core = dict(TypeAdapter(annotation).core_schema)
        refuse_unfit(core)
        fitted: Any = schema.fitted(core)
        config: Any = schema.CONFIG
        self._name = signatures.name_of(annotation)
        # Else pydantic takes a model's own reader and writer, with the model's own settings.
        self._reader = SchemaValidator(fitted, config, _use_prebuilt=False)
        self._writer = SchemaSerializer(fitted, config, _use_prebuilt=False)

    def dump(self, value: object, root: str) -> Json:
        try:
            text = self._write(value)
        except Exception as error:
            raise self._not_written(value, root, error) from error
        difference = sameness.difference(value, self._read(text, value, root))
        if difference:
            raise difference.error(root)
        data: Json = pydantic_core.from_json(text)
        return data

    def load(self, data: Json, root: str) -> object:
        return self._read(plain.to_text(data), data, root)

    def _write(self, value: object, fallback: Callable[[Any], Any] | None = None) -> bytes:
        return self._writer.to_json(
            value, by_alias=False, round_trip=True, warnings=False, fallback=fallback
        )

    def _read(self, text: str | bytes, value: object, root: str) -> object:
        try:
            return self._reader.validate_json(text, by_alias=False, by_name=True)
        except ValidationError as error:
            raise self._not_read(value, root, error) from error
        except Exception as error:
            # A validator of the user's may raise what it likes.
            said = f"{root} cannot be read back as {self._name}: {error!r}"
            raise CodecError(said, root) from error

    def _not_read(self, value: object, root: str, error: ValidationError) -> CodecError:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            found = paths.find(value, _is_long, root)
            return plain.not_writable(found[1], found[0]) if found else plain.too_deep(root)
        path, part = paths.follow(value, first["loc"], root)
        refused = plain.refusal(part, path) if first["type"] == schema.NOT_PLAIN else None
        where, what = plain.shown_path(path), plain.shown(part)
        said = f"{where} is {what}, which cannot be read back as {self._name}: {first['msg']}"
        return refused or CodecError(said, path)

    def _not_written(self, value: object, root: str, error: Exception) -> CodecError:
        found = paths.find(value, _is_broken, root)
        if found:
            return plain.not_writable(found[1], found[0])
        if "depth exceeded" in str(error) or "Circular reference" in str(error):
            return plain.too_deep(root)
        path, part = paths.find(value, self._is_unknown_in(value), root) or (root, value)
        where, what = plain.shown_path(path), plain.shown(part)
        return CodecError(f"{where} is {what}, which cannot be written as JSON: {error}", path)

    def _is_unknown_in(self, value: object) -> Callable[[object], bool]:
        """Return a test for the parts of the value that pydantic does not know how to write."""
        unknown: list[object] = []
        with contextlib.suppress(Exception):
            self._write(value, fallback=unknown.append)
        return lambda part: any(part is one for one in unknown)


def _is_broken(part: object) -> bool:
    return isinstance(part, str) and not plain.is_unicode(part)


def _is_long(part: object) -> bool:
    return isinstance(part, int) and not plain.is_short(part)


def _is_untyped(annotation: Any) -> bool:
    return annotation is Any or annotation is object


def _plain_types(annotation: Any) -> frozenset[Any]:
    """Return of which types the plain values are that the annotation admits.

    There are none as soon as other values are admitted: those may be written as plain ones.
    """
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        members = [_plain_types(member) for member in typing.get_args(annotation)]
        return frozenset[Any]().union(*members) if all(members) else frozenset()
    if _is_untyped(annotation):
        return plain.PLAIN_TYPES
    if annotation is float:
        return frozenset({float, int})
    if annotation in (dict[str, Any], list[Any]):
        return frozenset({origin})
    if any(annotation is kind for kind in (dict, list, *_SCALARS)):
        return frozenset({annotation})
    return frozenset()


def codec_for(annotation: Any, *, where: str) -> Codec[Any]:
    """Return the codec of an annotation whose strings are resolved.

    Args:
        annotation: a type, or None for the type of None.
        where: whose annotation it is, for the error's message.

    Raises:
        UsageError: no value of the type would come back as it was, or pydantic does not know it.
    """
    try:
        # Its text tells `A | B` from `B | A`: they are equal, but a value may come back as either.
        return _known_codec(annotation, repr(annotation))
    except Unfit as unfit:
        named = f"{signatures.name_of(annotation)}{unfit.path}"
        said = f"{where}: {named} is {unfit.what}, and would not come back as it was"
        raise UsageError(f"{said}; {unfit.remedy}") from None
    except (PydanticUserError, PydanticUndefinedAnnotation, SchemaError) as error:
        raise _refused_by_pydantic(annotation, where, error) from error
    except RecursionError:
        raise UsageError(f"{where}: the type nests too many others; store it in parts") from None


def _known_codec(annotation: Any, text: str) -> Codec[Any]:
    try:
        hash(annotation)
    except TypeError:
        return Codec(annotation)
    return _cached_codec(annotation, text)


@functools.lru_cache(maxsize=_CODECS_KEPT)
def _cached_codec(annotation: Any, text: str) -> Codec[Any]:
    del text
    return Codec(annotation)


def result_codec(function: Callable[..., Any]) -> Codec[Any]:
    """Return the codec of what a call of the function gives, by its return annotation.

    Raises:
        UsageError: as from `codec_for`, or the annotation cannot be resolved.
    """
    key = _lasting(function)
    try:
        return _result_codecs[key]
    except (KeyError, TypeError):  # It is new, or can have no hash or weak reference.
        annotation = signatures.result_annotation(function)
        codec = codec_for(annotation, where=f"the result of {signatures.name_of(key)}()")
    with contextlib.suppress(TypeError):
        _result_codecs[key] = codec
    return codec


_result_codecs: weakref.WeakKeyDictionary[Any, Codec[Any]] = weakref.WeakKeyDictionary()


def _lasting(function: Any) -> Any:
    """Return what lives as long as the definition; methods and partials are made for each call."""
    while True:
        if isinstance(function, functools.partial):
            function = cast("Any", function).func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        else:
            return function


def _refused_by_pydantic(annotation: Any, where: str, error: Exception) -> UsageError:
    name, code = signatures.name_of(annotation), getattr(error, "code", None)
    path, part = _refused_part(annotation, "", frozenset())
    what = f"{name}{path} is {signatures.name_of(part)}, for which" if path else f"for {name}"
    if code == "typed-dict-version":
        why = "pydantic has no schema before Python 3.12; use typing_extensions.TypedDict instead"
    elif code in ("class-not-fully-defined", "undefined-annotation"):
        why = f"pydantic misses a name: {error}; define it, and call model_rebuild()"
    else:
        why = f"pydantic has no schema; {FORM}"
    return UsageError(f"{where}: {what} {why}")


def _refused_part(annotation: Any, path: str, seen: frozenset[int]) -> tuple[str, Any]:
    """Return the path to the innermost part that pydantic refuses, and the part."""
    for step, part in signatures.parts_of(annotation):
        if id(part) not in seen and _is_refused(part):
            return _refused_part(part, path + step, seen | {id(part)})
    return path, annotation


def _is_refused(annotation: Any) -> bool:
    try:
        TypeAdapter(annotation)
    except Exception:  # noqa: BLE001  # whatever it raises, it does not know the type
        return True
    return False
