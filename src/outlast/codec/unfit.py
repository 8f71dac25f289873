"""Which types are refused when they are declared: none of their values would come back as it was.

The one rule: a type is refused only if no value of it can pass, or if reading one would run code of
the stored data's choosing. Whether this very value comes back is found out when it is written.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from outlast.codec.schema import MAPPINGS, Schema, schemas_in

FORM: Final = "use a pydantic model, a dataclass or plain JSON"


class Unfit(Exception):
    """A type none of whose values comes back as it was; the caller makes a `UsageError` of it.

    Attributes:
        path: where it stands in the annotation, such as `.items[...].when`.
        what: what it is.
        remedy: what to write instead.
    """

    path: str
    what: str
    remedy: str

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
    waiting, seen = [schema], {id(schema)}
    while waiting:
        current = waiting.pop()
        function: Any = current.get("function")
        if isinstance(function, MAPPINGS):
            function = function.get("function")
        if _is_of_pydantic(function, {"import_string"}):
            remedy = "hand on the name as str, and look it up in the code"
            raise Unfit("", "ImportString, which imports by name", remedy)
        new = [part for _, _, part in schemas_in(current) if id(part) not in seen]
        seen.update(map(id, new))
        waiting += new


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
        self._known: dict[tuple[int, bool], Unfit | None] = {}

    def unfit(self, schema: Schema, path: str, *, is_written: bool) -> Unfit | None:
        """Return why no value of the schema comes back, or None; so far, of one inside itself."""
        key = (id(schema), is_written)
        if key not in self._known:
            self._known[key] = None
            self._known[key] = self._find_unfit(schema, path, is_written=is_written)
        return self._known[key]

    def _find_unfit(self, schema: Schema, path: str, *, is_written: bool) -> Unfit | None:
        kind = schema["type"]
        written: Schema = schema.get("serialization") or {}
        writer: object = written.get("function")
        if writer is not None and not is_written:
            if _is_of_pydantic(writer, _SECRETS):
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
        for holder, name, part in schemas_in(schema):
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
        found = [self.unfit(part, path, is_written=is_written) for _, _, part in schemas_in(schema)]
        return found[0] if found and all(found) else None

    def _unfit_chain(self, schema: Schema, path: str, *, is_written: bool) -> Unfit | None:
        return self.unfit(schema["steps"][0], path, is_written=is_written)

    def _unfit_definitions(self, schema: Schema, path: str, *, is_written: bool) -> Unfit | None:
        self._definitions.update((part["ref"], part) for part in schema["definitions"])
        return self.unfit(schema["schema"], path, is_written=is_written)

    def _unfit_reference(self, schema: Schema, path: str, *, is_written: bool) -> Unfit | None:
        definition = self._definitions.get(schema["schema_ref"])
        if definition is None:
            return None
        return self.unfit(definition, path, is_written=is_written)

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


def _is_of_pydantic(function: object, names: Collection[str]) -> bool:
    module, name = getattr(function, "__module__", None), getattr(function, "__name__", None)
    return name in names and str(module).startswith("pydantic.")


def _class_name(cls: object) -> str:
    return str(getattr(cls, "__qualname__", repr(cls)))
