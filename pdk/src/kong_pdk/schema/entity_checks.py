"""Checks across several fields of a record (``entity_checks``), like those of Kong's schema engine."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kong_pdk.schema import Field, lua
from kong_pdk.schema.error_text import Errors

_MISSING: Any = object()
_REFERENCE = re.compile(r"\{vault://.+\}\Z", re.DOTALL)


@dataclass(frozen=True)
class Entity:
    """A record that is checked: its definition, its values with defaults, and a function that checks one field."""

    record: Field
    value: dict[str, Any]
    errors: Errors
    field_error: Callable[[Field, Any], str | Errors | None]

    def get(self, name: str) -> Any:
        """The value of a field; ``_MISSING`` where Lua has nil. A dotted name is a field of an inner record."""
        value: Any = self.value
        for part in name.split("."):
            if not isinstance(value, dict):
                return _MISSING
            value = value.get(part, _MISSING)
        return value

    def field(self, name: str) -> Field:
        """The definition of a field. A dotted name is a field of an inner record."""
        field = self.record
        for part in name.split("."):
            field = next((each[part] for each in field.get("fields", ()) if part in each), {"type": "string"})
        return field

    def nonempty(self, names: list[str]) -> list[str]:
        """The fields whose value is not missing, null, an empty string or an empty table."""
        return [name for name in names if self.get(name) not in (_MISSING, None, "", [], {})]

    def add_error(self, name: str, error: Any) -> None:
        """Set the error of a field; a dotted name is a field of an inner record."""
        errors = self.errors
        *path, last = name.split(".")
        for part in path:
            inner = errors.setdefault(part, {})
            if not isinstance(inner, dict):
                return
            errors = inner
        errors[last] = error


def is_reference(field: Field, value: Any) -> bool:
    """Whether ``value`` is a reference to a secret (``{vault://...}``) and the field allows one."""
    return bool(field.get("referenceable") and isinstance(value, str) and _REFERENCE.match(value))


def run(entity: Entity) -> None:
    """Run the record's entity checks and add their errors to ``entity.errors``, in general under ``@entity``."""
    for check in entity.record.get("entity_checks", ()):
        for name, argument in check.items():
            checker = CHECKERS[name]
            names = _names(argument)
            if _can_run(entity, checker, names) and (error := checker.run(entity, argument)):
                entity.errors.setdefault("@entity", []).append(error)


def _names(argument: Any) -> list[str]:
    """The names of the fields that a check looks at."""
    if isinstance(argument, list):
        return argument
    keys = ("if_field", "then_field", "then_at_least_one_of", "else_then_at_least_one_of", "set1", "set2")
    names: list[str] = []
    for key in keys:
        names_of_key = argument.get(key, [])
        names.extend([names_of_key] if isinstance(names_of_key, str) else names_of_key)
    return names


def _can_run(entity: Entity, checker: Checker, names: list[str]) -> bool:
    if any(is_reference(entity.field(name), entity.get(name)) for name in names):
        return False
    if not checker.with_invalid_fields and any(name in entity.errors for name in names):
        return False
    missing = [name for name in names if entity.get(name) is _MISSING]
    if checker.with_missing_fields or not missing:
        return True
    if len(missing) < len(names):
        for name in missing:
            entity.add_error(name, "field required for entity check")
    return False


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _at_least_one_of(entity: Entity, names: list[str]) -> str | None:
    if entity.nonempty(names):
        return None
    return f"at least one of these fields must be non-empty: {_quoted(names)}"


def _only_one_of(entity: Entity, names: list[str]) -> str | None:
    if len(entity.nonempty(names)) == 1:
        return None
    return f"exactly one of these fields must be non-empty: {_quoted(names)}"


def _distinct(entity: Entity, names: list[str]) -> str | None:
    values = [entity.get(name) for name in entity.nonempty(names)]
    if any(lua.equal(value, other) for at, value in enumerate(values) for other in values[:at]):
        return f"values of these fields must be distinct: {_quoted(names)}"
    return None


def _mutually_required(entity: Entity, names: list[str]) -> str | None:
    if len(entity.nonempty(names)) in (0, len(names)):
        return None
    return f"all or none of these fields must be set: {_quoted(names)}"


def _mutually_exclusive(entity: Entity, names: list[str]) -> str | None:
    if len(entity.nonempty(names)) < 2:
        return None
    return f"only one or none of these fields must be set: {_quoted(names)}"


def _mutually_exclusive_sets(entity: Entity, argument: dict[str, list[str]]) -> str | None:
    first, second = entity.nonempty(argument["set1"]), entity.nonempty(argument["set2"])
    if first and second:
        return f"these sets are mutually exclusive: ({_quoted(first)}), ({_quoted(second)})"
    return None


def _conditional(entity: Entity, argument: dict[str, Any]) -> str | None:
    if_field, then_field = argument["if_field"], argument["then_field"]
    if _error(entity, if_field, argument["if_match"]):
        return None
    value, then_match = _nullable(entity, then_field), argument["then_match"]
    if then_match.get("required") is True and value is None:
        entity.add_error(then_field, "required field missing")
    elif error := _error(entity, then_field, then_match):
        entity.add_error(then_field, error)
        if argument.get("then_err"):
            return _formatted(argument["then_err"], if_field)
    else:
        return None
    return f"failed conditional validation given value of field '{if_field}'"


def _conditional_at_least_one_of(entity: Entity, argument: dict[str, Any]) -> str | None:
    if entity.get(argument["if_field"]) is _MISSING:
        return None
    if not _error(entity, argument["if_field"], argument["if_match"]):
        names, own_error = argument["then_at_least_one_of"], argument.get("then_err")
    elif argument.get("else_match") and not _error(entity, argument["if_field"], argument["else_match"]):
        names, own_error = argument["else_then_at_least_one_of"], argument.get("else_then_err")
    else:
        return None
    error = _at_least_one_of(entity, names)
    return _formatted(own_error, _quoted(names)) if error and own_error else error


def _formatted(template: str, text: str) -> str:
    return template.replace("%s", text, 1)


def _nullable(entity: Entity, name: str) -> Any:
    value = entity.get(name)
    return None if value is _MISSING else value


def _error(entity: Entity, name: str, match: dict[str, Any]) -> str | Errors | None:
    """The error of a field if its definition also had the attributes of ``match``."""
    return entity.field_error({**entity.field(name), **match}, _nullable(entity, name))


@dataclass(frozen=True)
class Checker:
    """A check, and whether Kong runs it even if fields that it looks at are missing or invalid."""

    run: Callable[[Entity, Any], str | None]
    with_missing_fields: bool = False
    with_invalid_fields: bool = False


CHECKERS = {
    "at_least_one_of": Checker(_at_least_one_of, True, True),
    "conditional_at_least_one_of": Checker(_conditional_at_least_one_of, True, True),
    "only_one_of": Checker(_only_one_of, False, True),
    "distinct": Checker(_distinct, False, True),
    "conditional": Checker(_conditional, False, True),
    "mutually_required": Checker(_mutually_required, True),
    "mutually_exclusive": Checker(_mutually_exclusive, True),
    "mutually_exclusive_sets": Checker(_mutually_exclusive_sets, True),
}
