"""Checks of a value by the attributes of its field, in Kong's order and with Kong's error texts."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

from kong_pdk.masking import MASK
from kong_pdk.schema import Field, lua
from kong_pdk.schema.lua import Pattern
from kong_pdk.schema.secret_fields import is_secret

# Gets the value, the attribute's argument and the field; returns the error, or None.
Validator = Callable[[Any, Any, Field], "str | None"]

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z", re.IGNORECASE)

# Kong compiles with PCRE. Only these errors of Python are errors of PCRE too: PCRE supports more than Python.
_REGEX_ERRORS = re.compile(
    r"missing \), unterminated|unbalanced parenthesis|unterminated character set|nothing to repeat"
    r"|bad character range|bad escape \(end of pattern\)"
)


def check(field: Field, value: Any) -> str | None:
    """The first error of ``value`` by the attributes of ``field``: Kong's text, or the field's own ``err``."""
    for name, validator in VALIDATORS.items():
        if field.get(name) is not None and (error := validator(value, field[name], field)):
            return str(field.get("err") or error)
    # Kong refuses an empty string unless the field sets len_min.
    if field["type"] == "string" and value == "" and field.get("len_min") is None:
        return str(field.get("err") or "length must be at least 1")
    return None


def is_uuid(value: str) -> bool:
    """Whether ``value`` is a UUID in the form that Kong writes."""
    return bool(_UUID.match(value))


def _shown(value: Any, field: Field) -> Any:
    """The value in an error text."""
    return MASK if is_secret(field) else value


def _joined(options: list[Any]) -> str:
    return ", ".join(map(lua.text, options))


def _eq(value: Any, expected: Any, field: Field) -> str | None:
    return None if lua.equal(value, expected) else f"value must be {lua.text(expected)}"


def _ne(value: Any, unwanted: Any, field: Field) -> str | None:
    return f"value must not be {lua.text(_shown(value, field))}" if lua.equal(value, unwanted) else None


def _not_one_of(value: Any, options: list[Any], field: Field) -> str | None:
    is_listed = any(lua.equal(value, option) for option in options)
    return f"must not be one of: {_joined(options)}" if is_listed else None


def _one_of(value: Any, options: list[Any], field: Field) -> str | None:
    is_listed = any(lua.equal(value, option) for option in options)
    return None if is_listed else f"expected one of: {_joined(options)}"


def _gt(value: Any, limit: Any, field: Field) -> str | None:
    return None if value > limit else f"value must be greater than {lua.text(limit)}"


def _timestamp(value: Any, expected: Any, field: Field) -> str | None:
    return "expected a valid timestamp" if value <= 0 else None


def _uuid(value: Any, expected: Any, field: Field) -> str | None:
    return None if is_uuid(value) else "expected a valid UUID"


def _is_regex(value: Any, expected: Any, field: Field) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", value))
    except re.error as error:
        return f"not a valid regex: {_shown(value, field)}" if _REGEX_ERRORS.search(error.msg) else None
    except (OverflowError, RecursionError):
        return f"not a valid regex: {_shown(value, field)}"
    return None


def _between(value: Any, limits: list[Any], field: Field) -> str | None:
    low, high = limits
    # Kong's message shows the limits without fractions.
    return None if low <= value <= high else f"value should be between {int(low)} and {int(high)}"


def _len_eq(value: Any, expected: Any, field: Field) -> str | None:
    return None if lua.length(value) == expected else f"length must be {int(expected)}"


def _len_min(value: Any, least: Any, field: Field) -> str | None:
    return None if lua.length(value) >= least else f"length must be at least {int(least)}"


def _len_max(value: Any, most: Any, field: Field) -> str | None:
    return None if lua.length(value) <= most else f"length must be at most {int(most)}"


def _starts_with(value: Any, expected: Any, field: Field) -> str | None:
    return None if value.startswith(expected) else f"should start with: {expected}"


def _not_match(value: Any, pattern: Any, field: Field) -> str | None:
    return f"invalid value: {_shown(value, field)}" if Pattern(pattern).matches(value) else None


def _match(value: Any, pattern: Any, field: Field) -> str | None:
    return None if Pattern(pattern).matches(value) else f"invalid value: {_shown(value, field)}"


def _match_none(value: Any, patterns: Any, field: Field) -> str | None:
    hits = (entry for entry in patterns if Pattern(entry["pattern"]).matches(value))
    return _error_of_entry(next(hits, None), value, field)


def _match_all(value: Any, patterns: Any, field: Field) -> str | None:
    misses = (entry for entry in patterns if not Pattern(entry["pattern"]).matches(value))
    return _error_of_entry(next(misses, None), value, field)


def _match_any(value: Any, argument: Any, field: Field) -> str | None:
    matches = any(Pattern(pattern).matches(value) for pattern in argument["patterns"])
    return None if matches else _error_of_entry(argument, value, field)


def _error_of_entry(entry: Any, value: Any, field: Field) -> str | None:
    return None if entry is None else str(entry.get("err") or f"invalid value: {_shown(value, field)}")


def _contains(value: Any, expected: Any, field: Field) -> str | None:
    is_contained = any(lua.equal(item, expected) for item in value)
    return None if is_contained else f"expected to contain: {lua.text(expected)}"


def _mutually_exclusive_subsets(value: Any, subsets: Any, field: Field) -> str | None:
    used = [subset for subset in subsets if any(lua.equal(item, member) for item in value for member in subset)]
    if len(used) < 2:
        return None
    groups = ", ".join("(" + ", ".join(f"'{item}'" for item in subset) + ")" for subset in used)
    return f"these sets are mutually exclusive: {groups}"


VALIDATORS: dict[str, Validator] = {
    "eq": _eq,
    "ne": _ne,
    "not_one_of": _not_one_of,
    "one_of": _one_of,
    "gt": _gt,
    "timestamp": _timestamp,
    "uuid": _uuid,
    "is_regex": _is_regex,
    "between": _between,
    "len_eq": _len_eq,
    "len_min": _len_min,
    "len_max": _len_max,
    "starts_with": _starts_with,
    "not_match": _not_match,
    "match_none": _match_none,
    "match": _match,
    "match_all": _match_all,
    "match_any": _match_any,
    "contains": _contains,
    "mutually_exclusive_subsets": _mutually_exclusive_subsets,
}
