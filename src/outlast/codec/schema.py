"""What is changed in a type's schema so that its values come back as they were.

The one rule: what is written depends neither on a model's own settings nor on the version of
pydantic. So whoever changes what `fitted` does changes the format of stored data.

A core schema is walked by its keys, since its kinds differ from one version of pydantic to another.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any, Final

from pydantic_core import PydanticCustomError

from outlast.codec.plain import is_plain

Schema = dict[str, Any]

CONFIG: Final = {
    "ser_json_bytes": "base64",
    "val_json_bytes": "base64",
    "ser_json_inf_nan": "constants",
}

NOT_PLAIN: Final = "not_plain_json"
"""The type of the validation error for an unannotated part that is not plain JSON."""

_HAVE_CONFIG: Final = frozenset({"model", "dataclass", "typed-dict"})
_HOLD_SCHEMAS: Final = frozenset(
    {
        "arguments_schema",
        "choices",
        "extras_schema",
        "fields",
        "items_schema",
        "json_schema",
        "keys_schema",
        "lax_schema",
        "schema",
        "steps",
        "strict_schema",
        "values_schema",
    }
)
MAPPINGS: tuple[type[Any], ...] = (dict,)
_SEQUENCES: tuple[type[Any], ...] = (list, tuple)


def fitted(schema: Schema) -> Schema:
    """Return the schema, changed so that more values of the type come back as they were.

    Bytes are base64, NaN and infinities are constants, whatever a model's settings say. An int
    stays an int where float is annotated (to type checkers it is one). A fixed offset comes back as
    the `datetime.timezone` that it mostly was. A field with `init=False` is read as it was written.
    What has no annotation is refused unless it is plain JSON.
    """
    fitting = _Fitting()
    inner = fitting.fit(schema, is_key=False)
    return {"type": "definitions", "schema": inner, "definitions": fitting.definitions}


class _Fitting:
    """One schema being fitted.

    A model stands in it wherever it is used, as one shared object; so as a tree it may be as good
    as endless. Here each model becomes a definition, and is built once.
    """

    def __init__(self) -> None:
        self.definitions: list[Schema] = []
        self._references: dict[int, Schema] = {}

    def fit(self, schema: Schema, *, is_key: bool) -> Schema:
        """Return the schema fitted; that of a model as a reference to its definition."""
        if schema["type"] not in _HAVE_CONFIG:
            return self._fit(schema, is_key=is_key)
        reference = self._references.get(id(schema))
        if reference is None:
            name = f"outlast:{len(self._references)}"
            reference = {"type": "definition-ref", "schema_ref": name}
            self._references[id(schema)] = reference
            self.definitions.append({**self._fit(schema, is_key=is_key), "ref": name})
        return reference

    def _fit(self, schema: Schema, *, is_key: bool) -> Schema:
        fitting = dict(schema)
        for name in _HOLD_SCHEMAS.intersection(schema):
            fitting[name] = self._fit_inside(schema[name], is_key=is_key or name == "keys_schema")
        if "definitions" in schema:
            fitting["definitions"] = [self._fit(one, is_key=False) for one in schema["definitions"]]
        writer: Schema | None = schema.get("serialization")
        if writer:
            fitting["serialization"] = {
                name: self._fit_inside(part, is_key=is_key) if name.endswith("schema") else part
                for name, part in writer.items()
            }
        return _adapted(fitting, is_key=is_key)

    def _fit_inside(self, inside: Any, *, is_key: bool) -> Any:
        """Fit every schema in a schema, a list (of alternatives, say) or a mapping of names."""
        if isinstance(inside, MAPPINGS):
            if isinstance(inside.get("type"), str):
                return self.fit(inside, is_key=is_key)
            return {name: self._fit_inside(part, is_key=is_key) for name, part in inside.items()}
        if isinstance(inside, _SEQUENCES):
            return type(inside)(self._fit_inside(part, is_key=is_key) for part in inside)
        return inside


def _adapted(schema: Schema, *, is_key: bool) -> Schema:
    kind = schema["type"]
    if kind in _HAVE_CONFIG:
        return {**schema, "config": {**(schema.get("config") or {}), **CONFIG}}
    if kind == "dataclass-field":
        return {**schema, "init": True}
    if kind in ("datetime", "time"):
        return _followed_by(_with_plain_offset, schema)
    if kind == "any" and not is_key:
        return _followed_by(_refuse_unless_plain, schema)
    if kind == "float" and not is_key:
        return _or_int(schema)
    return schema


def _followed_by(function: Callable[[Any], Any], schema: Schema) -> Schema:
    named = {"type": "no-info", "function": function}
    return {"type": "function-after", "function": named, **_moved_out(schema), "schema": schema}


def _or_int(schema: Schema) -> Schema:
    choices: list[Schema] = [{"type": "int", "strict": True}, schema]
    return {"type": "union", **_moved_out(schema), "choices": choices}


def _moved_out(schema: Schema) -> Schema:
    """Take from the schema what belongs to the outermost one: its name, and how it is written."""
    return {name: schema.pop(name) for name in ("ref", "serialization") if name in schema}


def _with_plain_offset(moment: Any) -> Any:
    if moment.tzinfo is None:
        return moment
    return moment.replace(tzinfo=dt.timezone(moment.tzinfo.utcoffset(None)))


def _refuse_unless_plain(value: object) -> object:
    if not is_plain(value):
        raise PydanticCustomError(NOT_PLAIN, "Input should be plain JSON")
    return value


def schemas_in(schema: Schema) -> Iterator[tuple[str, str, Schema]]:
    """Yield each schema right inside a schema, after the key that holds it and its name there."""
    for holder, inside in schema.items():
        if holder in _HOLD_SCHEMAS or holder == "definitions":
            for name, part in _named_schemas(inside):
                yield holder, name, part


def _named_schemas(inside: Any) -> Iterator[tuple[str, Schema]]:
    if isinstance(inside, MAPPINGS):
        if isinstance(inside.get("type"), str):
            yield str(inside.get("name", "")), inside
            return
        for name, part in inside.items():
            yield from ((str(name), one) for _, one in _named_schemas(part))
    elif isinstance(inside, _SEQUENCES):
        for index, part in enumerate(inside):
            yield from ((name or str(index), one) for name, one in _named_schemas(part))
