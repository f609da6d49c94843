"""Checks a plugin's configuration against its schema and fills in defaults, like Kong's schema engine."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

from kong_pdk.schema import Field, entity_checks, lua, value_checks
from kong_pdk.schema.error_text import Errors
from kong_pdk.schema.secret_fields import inner_field

_MISSING: Any = object()
_REQUIRED = "required field missing"


def validate_config(fields: Iterable[Field], config: dict[str, Any] | None) -> tuple[dict[str, Any], Errors]:
    """Check a configuration and fill in its defaults.

    :param fields: the one-key dicts of a schema that was checked before.
    :param config: the configuration as a user wrote it; it is not changed.
    :return: the configuration as Kong passes it to the plugin, and its errors. The configuration has all defaults,
        sets without duplicates, and no optional fields without a value; ``{vault://...}`` in a ``referenceable``
        field stays as it is. The errors have Kong's text and are nested like the configuration, empty if there are
        none. In them, entries of a list count from 1, and ``"@entity"`` is a list of errors about several fields of a
        record.
    """
    record = _with_required_records({"type": "record", "fields": list(fields)})
    filled = _fill_record(record, copy.deepcopy(config if config is not None else {}))
    if not isinstance(filled, dict):
        return {}, {"@entity": ["expected a record"]}
    return _sent_value(record, filled), _record_errors(record, filled)


def check_value(field: Field, value: Any) -> str | Errors | None:
    """The errors of ``value`` as a value of ``field``, with Kong's text; None if it is valid."""
    return _field_error(field, copy.deepcopy(value))


def _with_required_records(field: Field) -> Field:
    """A copy in which records inside records are required by default, so that their own defaults are filled in.

    Kong changes a plugin's schema in the same way, but not inside arrays, sets and maps.
    """
    if field["type"] != "record" or "fields" not in field:
        return field
    fields = [{name: _with_required_records(inner) for name, inner in each.items()} for each in field["fields"]]
    return {"required": True, **field, "fields": fields}


def _fields(record: Field) -> dict[str, Field]:
    return {name: field for entry in record.get("fields", ()) for name, field in entry.items()}


def _fill_record(record: Field, value: Any) -> Any:
    """``value`` with the defaults of missing fields; a missing optional field without a default becomes None."""
    # In Lua an empty table is both a list and a record.
    record_value = {} if value == [] else value
    if isinstance(record_value, dict):
        for name, field in _fields(record).items():
            filled = _fill(field, record_value.get(name, _MISSING))
            if filled is not _MISSING:
                record_value[name] = filled
    return record_value


def _fill(field: Field, value: Any) -> Any:
    if field.get("abstract"):
        return None if value is _MISSING else value
    kind = field["type"]
    if value is _MISSING:
        value = _default(field)
        return _fill_record(field, value) if kind == "record" and field.get("required") else value
    if kind == "record":
        return _fill_record(field, value)
    if kind in ("array", "set"):
        return _fill_list(field, [] if value == {} else value)
    if kind == "map" and isinstance(value, dict):
        return {key: _fill(field["values"], each) for key, each in value.items()}
    return {} if kind == "map" and value == [] else value


def _fill_list(field: Field, value: Any) -> Any:
    if not isinstance(value, list):
        return value
    entries = _without_duplicates(value) if field["type"] == "set" else value
    return [_fill(field["elements"], each) for each in entries]


def _default(field: Field) -> Any:
    if "default" in field:
        return copy.deepcopy(field["default"])
    if not field.get("required"):
        return None
    return {} if field["type"] == "record" else _MISSING


def _without_duplicates(entries: list[Any]) -> list[Any]:
    kept: dict[object, Any] = {}
    for entry in entries:
        kept.setdefault(lua.identity(entry), entry)
    return list(kept.values())


def _record_errors(record: Field, value: dict[str, Any]) -> Errors:
    fields = _fields(record)
    errors: Errors = {}
    for name, each in value.items():
        if name not in fields:
            errors[str(name)] = "unknown field"
        elif error := _field_error(fields[name], each):
            errors[name] = error
    for name, field in fields.items():
        if field.get("required") and value.get(name) is None:
            errors[name] = _REQUIRED
    entity_checks.run(entity_checks.Entity(record, value, errors, _field_error))
    return errors


def _field_error(field: Field, value: Any) -> str | Errors | None:
    if value is None:
        return _error_of_null(field)
    if "eq" in field and field["eq"] is None:
        return str(field.get("err") or "value must be null")
    if field.get("abstract"):
        return "error in schema definition: abstract field was not specialized"
    error = _TYPES[field["type"]](field, value)
    if error or entity_checks.is_reference(field, value):
        return error
    return value_checks.check(field, value)


def _error_of_null(field: Field) -> str | None:
    if "ne" in field and field["ne"] is None:
        return str(field.get("err") or "value must not be null")
    if field.get("eq") is not None:
        return f"value must be {lua.text(field['eq'])}"
    return _REQUIRED if field.get("required") else None


def _string(field: Field, value: Any) -> str | None:
    return None if isinstance(value, str) else "expected a string"


def _boolean(field: Field, value: Any) -> str | None:
    return None if isinstance(value, bool) else "expected a boolean"


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _number(field: Field, value: Any) -> str | None:
    return None if _is_number(value) else "expected a number"


def _integer(field: Field, value: Any) -> str | None:
    return None if _is_number(value) and value == math.floor(value) else "expected an integer"


def _list(field: Field, value: Any) -> str | Errors | None:
    if not isinstance(value, list):
        return "expected an array" if field["type"] == "array" else "expected a set"
    elements = inner_field(field, "elements")
    errors = ((at, _entry_error(elements, entry)) for at, entry in enumerate(value, 1))
    return {at: error for at, error in errors if error} or None


def _map(field: Field, value: Any) -> str | Errors | None:
    if isinstance(value, list):
        # In Lua a list is a map too, whose keys are numbers.
        value = dict(enumerate(value, 1))
    if not isinstance(value, dict):
        return "expected a map"
    keys, values = inner_field(field, "keys"), inner_field(field, "values")
    for key, each in value.items():
        if error := _entry_error(keys, key) or _entry_error(values, each):
            return error
    return None


def _entry_error(field: Field, value: Any) -> str | Errors | None:
    """Like :func:`_field_error`, but the entries of a list or a map are always required."""
    return _REQUIRED if value is None else _field_error(field, value)


def _record(field: Field, value: Any) -> str | Errors | None:
    if isinstance(value, list) and value:
        return dict.fromkeys(range(1, len(value) + 1), "unknown field")
    if not isinstance(value, dict | list):
        return "expected a record"
    return _record_errors(field, _fill_record(field, copy.deepcopy(value))) or None


def _foreign(field: Field, value: Any) -> str | Errors | None:
    if not isinstance(value, dict) or not value.get("id"):
        return {"id": "missing primary key"}
    if not isinstance(value["id"], str):
        return {"id": "expected a string"}
    return None if value_checks.is_uuid(value["id"]) else {"id": "expected a valid UUID"}


_TYPES = {
    "string": _string,
    "boolean": _boolean,
    "number": _number,
    "integer": _integer,
    "array": _list,
    "set": _list,
    "map": _map,
    "record": _record,
    "foreign": _foreign,
}


def _sent_value(field: Field, value: Any) -> Any:
    """``value`` as in the JSON that Kong sends to the plugin: records without nulls, integral numbers as integers."""
    kind = field["type"]
    if kind == "record" and isinstance(value, dict):
        fields = _fields(field)
        present = {name: each for name, each in value.items() if each is not None}
        return {name: _sent_value(fields[name], each) if name in fields else each for name, each in present.items()}
    if kind in ("array", "set") and isinstance(value, list):
        return [_sent_value(field["elements"], each) for each in value]
    if kind == "map" and isinstance(value, dict):
        return {key: _sent_value(field["values"], each) for key, each in value.items()}
    # Lua's numbers are doubles, and Kong's JSON encoder writes 14 digits of them.
    if kind in ("number", "integer") and isinstance(value, float) and value.is_integer() and abs(value) < 1e14:
        return int(value)
    return value
