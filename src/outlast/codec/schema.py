"""What of a type's schema is refused, and what is changed so that values come back as they were.

The one rule: what is written depends neither on a model's own settings nor on the version of
pydantic. So whoever changes what `fitted` does changes the format of stored data.

A core schema is walked by its keys, since its kinds differ from one version of pydantic to another.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
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

FORM: Final = "use a pydantic model, a dataclass or plain JSON"

_HAVE_CONFIG: Final = frozenset({"model", "dataclass", "typed-dict"})
_HOLD_SCHEMAS: Final = frozenset(
    {
        "arguments_schema",
        "choices",
        "definitions",
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
_MAPPINGS: tuple[type[Any], ...] = (dict,)
_SEQUENCES: tuple[type[Any], ...] = (list, tuple)


def fitted(schema: Schema) -> Schema:
    """Return the schema, changed so that more values of the type come back as they were.

    Bytes are base64, NaN and infinities are constants, whatever a model's settings say. An int
    stays an int where float is annotated (to type checkers it is one). A fixed offset comes back as
    the `datetime.timezone` that it mostly was. A field with `init=False` is read as it was written.
    What has no annotation is refused unless it is plain JSON.
    """
    return _fit(schema, is_key=False)


def _fit(schema: Schema, *, is_key: bool) -> Schema:
    fitting = dict(schema)
    for name in _HOLD_SCHEMAS.intersection(schema):
        fitting[name] = _fit_inside(schema[name], is_key=is_key or name == "keys_schema")
    writer: Schema | None = schema.get("serialization")
    if writer:
        fitting["serialization"] = {
            name: _fit_inside(part, is_key=is_key) if name.endswith("schema") else part
            for name, part in writer.items()
        }
    kind = schema["type"]
    if kind in _HAVE_CONFIG:
        fitting["config"] = {**(schema.get("config") or {}), **CONFIG}
    elif kind == "dataclass-field":
        fitting["init"] = True
    elif kind in ("datetime", "time"):
        return _followed_by(_with_plain_offset, fitting)
    elif kind == "any" and not is_key:
        return _followed_by(_refuse_unless_plain, fitting)
    elif kind == "float" and not is_key:
        return _or_int(fitting)
    return fitting


def _fit_inside(inside: Any, *, is_key: bool) -> Any:
    """Fit every schema in a schema, a list (of alternatives, say) or a mapping of names."""
    if isinstance(inside, _MAPPINGS):
        if isinstance(inside.get("type"), str):
            return _fit(inside, is_key=is_key)
        return {name: _fit_inside(part, is_key=is_key) for name, part in inside.items()}
    if isinstance(inside, _SEQUENCES):
        return type(inside)(_fit_inside(part, is_key=is_key) for part in inside)
    return inside


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


class Unfit(Exception):
    """A type none of whose values comes back as it was; the caller makes a `UsageError` of it.

    Attributes:
        path: where it stands in the annotation, such as `.items[...].when`.
        what: what it is.
        remedy: what to write instead.
    """

    def __init__(self, path: str, what: str, remedy: str) -> None:
        super().__init__(path, what, remedy)
        self.path, self.what, self.remedy = path, what, remedy


def refuse_unfit(schema: Schema) -> None:
    """Raise `Unfit` if no value of the type can come back as it was, or reading one is unsafe.

    A type that may have such a value passes: each value is read back when it is written.
    """
    _refuse_imports(schema)
    found = _Search().unfit(schema, "", is_written=False)
    if found:
        raise found


def _refuse_imports(schema: Schema) -> None:
    """Stored data must not name what is imported, not even in a branch that is never taken."""
    function: Any = schema.get("function")
    if isinstance(function, _MAPPINGS):
        function = function.get("function")
    if getattr(function, "__name__", None) == "import_string":
        remedy = "hand on the name as str, and look it up in the code"
        raise Unfit("", "ImportString, which imports by name", remedy)
    for _, _, part in _schemas_in(schema):
        _refuse_imports(part)


def _schemas_in(schema: Schema) -> Iterator[tuple[str, str, Schema]]:
    """Yield each schema right inside a schema, after the key that holds it and its name there."""
    for holder, inside in schema.items():
        if holder in _HOLD_SCHEMAS:
            for name, part in _named_schemas(inside):
                yield holder, name, part


def _named_schemas(inside: Any) -> Iterator[tuple[str, Schema]]:
    if isinstance(inside, _MAPPINGS):
        if isinstance(inside.get("type"), str):
            yield str(inside.get("name", "")), inside
            return
        for name, part in inside.items():
            yield from ((str(name), one) for _, one in _named_schemas(part))
    elif isinstance(inside, _SEQUENCES):
        for index, part in enumerate(inside):
            yield from ((name or str(index), one) for name, one in _named_schemas(part))


_CLASS_REMEDY: Final = "hand on its name, and look it up in the code"
_NEVER: Final = {
    "callable": ("a callable", _CLASS_REMEDY),
    "generator": ("an iterator, which is used up by reading it", "use a list"),
    "is-instance": ("a class that has no form in JSON", FORM),
    "is-subclass": ("a class", _CLASS_REMEDY),
}
_NEVER_KEYS: Final = frozenset(
    {
        "call",
        "dataclass",
        "dict",
        "frozenset",
        "list",
        "model",
        "named-tuple",
        "none",
        "set",
        "tuple",
        "typed-dict",
    }
)
# The code of the user, or None, may come back where nothing else of the type does.
_MAY_PASS: Final = frozenset({"function-before", "function-plain", "function-wrap", "nullable"})
_SECRETS: Final = frozenset({"_serialize_secret", "_serialize_secret_field"})
_STEPS: Final = {
    "extras_schema": "[...]",
    "fields": ".{}",
    "items_schema": "[...]",
    "values_schema": "[...]",
}


class _Search:
    """A search of one schema for what can never come back.

    `is_written` says that how this value is written was set further out.
    """

    def __init__(self) -> None:
        self._definitions: dict[str, Schema] = {}
        self._seen: set[str] = set()

    def unfit(self, schema: Schema, path: str, *, is_written: bool) -> Unfit | None:
        """Return why no value of the schema comes back, or None."""
        kind = schema["type"]
        written: Schema = schema.get("serialization") or {}
        writer: object = written.get("function")
        if writer is not None and not is_written:
            if _is_of_secrets(writer):
                remedy = "hand on where it is kept, not the secret; or give its field a serializer"
                return Unfit(path, "a secret, which is written as asterisks", remedy)
            is_written = True
        if kind in _NEVER:
            what, remedy = _NEVER[kind]
            named = f"{what} ({_class_name(schema['cls'])})" if "cls" in schema else what
            return Unfit(path, named, remedy)
        if kind in _MAY_PASS:
            return None
        rule = self._RULES.get(kind, _Search._unfit_inside)
        return rule(self, schema, path, is_written=is_written)

    def _unfit_inside(self, schema: Schema, path: str, *, is_written: bool) -> Unfit | None:
        for holder, name, part in _schemas_in(schema):
            if holder == "strict_schema":
                continue
            if holder == "keys_schema" and part["type"] in _NEVER_KEYS:
                what = f"a dict with keys of kind {part['type']}"
                return Unfit(path, what, "use str keys, or a list of pairs")
            step = _STEPS.get(holder, "").format(name)
            found = self.unfit(part, path + step, is_written=is_written and not step)
            if found:
                return found
        return None

    def _unfit_union(self, schema: Schema, path: str, *, is_written: bool) -> Unfit | None:
        found = [
            self.unfit(part, path, is_written=is_written) for _, _, part in _schemas_in(schema)
        ]
        return found[0] if found and all(found) else None

    def _unfit_chain(self, schema: Schema, path: str, *, is_written: bool) -> Unfit | None:
        return self.unfit(schema["steps"][0], path, is_written=is_written)

    def _unfit_definitions(self, schema: Schema, path: str, *, is_written: bool) -> Unfit | None:
        self._definitions.update((part["ref"], part) for part in schema["definitions"])
        return self.unfit(schema["schema"], path, is_written=is_written)

    def _unfit_reference(self, schema: Schema, path: str, *, is_written: bool) -> Unfit | None:
        name = schema["schema_ref"]
        if name in self._seen or name not in self._definitions:
            return None
        self._seen.add(name)
        return self.unfit(self._definitions[name], path, is_written=is_written)

    def _unfit_field(self, field: Schema, path: str, *, is_written: bool) -> Unfit | None:
        if not (field.get("serialization_exclude") or field.get("init_only")):
            return self.unfit(field["schema"], path, is_written=is_written)
        if field["schema"]["type"] == "default" or field.get("required") is False:
            return None
        return Unfit(path, "a field that is required, but not written", "give it a default")

    _RULES: Final[Mapping[str, Callable[..., Unfit | None]]] = {
        "chain": _unfit_chain,
        "dataclass-field": _unfit_field,
        "definition-ref": _unfit_reference,
        "definitions": _unfit_definitions,
        "model-field": _unfit_field,
        "tagged-union": _unfit_union,
        "typed-dict-field": _unfit_field,
        "union": _unfit_union,
    }


def _is_of_secrets(writer: object) -> bool:
    module, name = getattr(writer, "__module__", ""), getattr(writer, "__name__", "")
    return module == "pydantic.types" and name in _SECRETS


def _class_name(cls: object) -> str:
    return str(getattr(cls, "__qualname__", repr(cls)))
