"""The attributes that a field of a Kong schema may have, and checks of their values."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from kong_pdk.schema import entity_checks
from kong_pdk.schema.lua import Pattern

# Returns the error of an attribute's value, which begins with a verb ("must be ..."); None if it is valid.
Check = Callable[[Any], "str | None"]

TYPES = ("string", "boolean", "integer", "number", "array", "set", "map", "record", "foreign")

REQUIRED = {"array": ("elements",), "set": ("elements",), "map": ("keys", "values"), "record": ("fields",)}

_NUMBERS = ("integer", "number")
_LISTS = ("array", "set")
_SIZED = ("array", "set", "string", "map")
_STRING = ("string",)

# Attributes that only some types can have. With a wrong type Kong refuses some, and fails at each request on others.
ONLY_FOR = {
    "between": _NUMBERS,
    "gt": _NUMBERS,
    "timestamp": _NUMBERS,
    "len_eq": _SIZED,
    "len_min": _SIZED,
    "len_max": _SIZED,
    "match": _STRING,
    "not_match": _STRING,
    "match_all": _STRING,
    "match_none": _STRING,
    "match_any": _STRING,
    "starts_with": _STRING,
    "is_regex": _STRING,
    "uuid": _STRING,
    "one_of": (*_STRING, *_NUMBERS),
    "contains": _LISTS,
    "mutually_exclusive_subsets": _LISTS,
    "unique": (*_STRING, *_NUMBERS, "foreign"),
    "unique_across_ws": (*_STRING, *_NUMBERS, "foreign"),
    "abstract": tuple(type_name for type_name in TYPES if type_name not in ("boolean", "foreign")),
    "elements": _LISTS,
    "keys": ("map",),
    "values": ("map",),
    "fields": ("record",),
}

# Attributes that only schemas written in Lua can have, and what they need.
NEVER = {
    "custom_validator": "a Lua function",
    "shorthand_fields": "a Lua function",
    "shorthands": "a Lua function",
    "json_schema": "fields of type json",
}


def closest(word: str, words: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of ``words`` that ``word`` may be a misspelling of."""
    matches = difflib.get_close_matches(word.lower(), list(words), n=1, cutoff=cutoff)
    return matches[0] if matches else None


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be True or False"


def is_number(value: Any) -> bool:
    """Whether ``value`` is an int or a float, and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> str | None:
    return None if is_number(value) else "must be a number"


def _whole_number(value: Any) -> str | None:
    return None if is_number(value) and value == int(value) and value >= 0 else "must be a whole number, 0 or more"


def _string(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "must be a string that is not empty"


def _description(value: Any) -> str | None:
    # The limits of Kong's metaschema; Kong does not start with a shorter description.
    fits = isinstance(value, str) and 10 <= len(value.encode()) <= 500
    return None if fits else "must be a string of 10 to 500 bytes"


def _list(value: Any) -> str | None:
    return None if isinstance(value, list) else "must be a list"


def _options(value: Any) -> str | None:
    is_simple = isinstance(value, list) and all(isinstance(option, str) or is_number(option) for option in value)
    return None if is_simple and value else "must be a list of strings or numbers, not empty"


def _between(value: Any) -> str | None:
    if not isinstance(value, list) or len(value) != 2 or not all(map(is_number, value)):
        return "must be a list of two numbers"
    return None if value[0] <= value[1] else "must have the lower number first"


def _anything(value: Any) -> str | None:
    return None


def _pattern(value: Any) -> str | None:
    if error := _string(value):
        return error
    try:
        Pattern(value)
    except ValueError as error:
        return f"must be a Lua pattern ({error})"
    return None


def _patterns(value: Any) -> str | None:
    form = 'must be a list of dicts {"pattern": ..., "err": ...}'
    if not isinstance(value, list):
        return form
    for entry in value:
        if not isinstance(entry, dict) or "pattern" not in entry or not set(entry) <= {"pattern", "err"}:
            return form
        if error := _pattern(entry["pattern"]) or ("err" in entry and _string(entry["err"])):
            return str(error)
    return None


def _match_any(value: Any) -> str | None:
    form = 'must be a dict {"patterns": [...], "err": ...}'
    if not isinstance(value, dict) or not set(value) <= {"patterns", "err"}:
        return form
    if not isinstance(value.get("patterns"), list):
        return form
    errors = (_pattern(pattern) for pattern in value["patterns"])
    return next(filter(None, errors), None) or ("err" in value and _string(value["err"])) or None


def _is_name_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


def _subsets(value: Any) -> str | None:
    return None if isinstance(value, list) and all(map(_is_name_list, value)) else "must be a list of lists of strings"


def _on_delete(value: Any) -> str | None:
    return None if value in ("restrict", "cascade", "null") else 'must be "restrict", "cascade" or "null"'


def _deprecation(value: Any) -> str | None:
    keys = {"message", "removal_in_version", "old_default", "replaced_with"}
    is_known = isinstance(value, dict) and set(value) <= keys
    if is_known and isinstance(value.get("message"), str) and isinstance(value.get("removal_in_version"), str):
        return None
    return 'must be a dict {"message": ..., "removal_in_version": ...}'


_ENTITY_CHECK_PARTS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "conditional": {
        "if_field": lambda value: isinstance(value, str),
        "if_match": lambda value: isinstance(value, dict),
        "then_field": lambda value: isinstance(value, str),
        "then_match": lambda value: isinstance(value, dict),
    },
    "conditional_at_least_one_of": {
        "if_field": lambda value: isinstance(value, str),
        "if_match": lambda value: isinstance(value, dict),
        "then_at_least_one_of": _is_name_list,
    },
    "mutually_exclusive_sets": {"set1": _is_name_list, "set2": _is_name_list},
}


def _entity_checks(value: Any) -> str | None:
    if not isinstance(value, list):
        return "must be a list of one-key dicts"
    for check in value:
        if not isinstance(check, dict) or len(check) != 1:
            return "must be a list of one-key dicts"
        [(name, argument)] = check.items()
        if name not in entity_checks.CHECKERS:
            match = closest(name, entity_checks.CHECKERS)
            return f'must hold checks that Kong knows, not "{name}"' + (f' (did you mean "{match}"?)' if match else "")
        parts = _ENTITY_CHECK_PARTS.get(name)
        if parts is None and not _is_name_list(argument):
            return f'must give "{name}" a list of field names'
        if parts and not (
            isinstance(argument, dict) and all(is_valid(argument.get(part)) for part, is_valid in parts.items())
        ):
            return f'must give "{name}" a dict with {", ".join(parts)}'
    return None


ATTRIBUTES: dict[str, Check] = {
    **dict.fromkeys(
        ("required", "referenceable", "encrypted", "auto", "unique", "unique_across_ws", "abstract", "immutable"),
        _boolean,
    ),
    **dict.fromkeys(("generate_admin_api", "is_regex", "timestamp", "uuid"), _boolean),
    **dict.fromkeys(("type", "reference", "err", "starts_with"), _string),
    **dict.fromkeys(("eq", "ne", "contains", "default", "elements", "keys", "values", "fields"), _anything),
    **dict.fromkeys(("len_eq", "len_min", "len_max"), _whole_number),
    **dict.fromkeys(("match", "not_match"), _pattern),
    **dict.fromkeys(("match_all", "match_none"), _patterns),
    **dict.fromkeys(("one_of", "not_one_of"), _options),
    "description": _description,
    "examples": _list,
    "gt": _number,
    "between": _between,
    "match_any": _match_any,
    "mutually_exclusive_subsets": _subsets,
    "on_delete": _on_delete,
    "deprecation": _deprecation,
    "entity_checks": _entity_checks,
}
