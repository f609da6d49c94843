"""Fields whose values are secrets: those that a schema marks as ``encrypted`` or ``referenceable``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kong_pdk.schema import Field

_MARKS = ("encrypted", "referenceable")
_REFERENCE = "{vault://"


def is_secret(field: Field) -> bool:
    """Whether the value of a field is a secret."""
    return any(field.get(mark) for mark in _MARKS)


def inner_field(field: Field, attribute: str) -> Field:
    """Give the definition of the entries of a list or a map, which are secrets if the whole is.

    :param attribute: ``elements``, ``keys`` or ``values``.
    """
    inner: Field = field[attribute]
    return {**inner, "encrypted": True} if is_secret(field) else inner


def secret_values(field: Field, value: Any) -> Iterator[str]:
    """Give the secrets in the value of a field. A reference to a secret is none. The value may be of any type."""
    kind = field.get("type")
    if isinstance(value, str):
        if is_secret(field) and not value.startswith(_REFERENCE):
            yield value
    elif isinstance(value, list) and "elements" in field:
        for each in value:
            yield from secret_values(inner_field(field, "elements"), each)
    elif isinstance(value, dict) and kind == "map" and "values" in field:
        for each in value.values():
            yield from secret_values(inner_field(field, "values"), each)
    elif isinstance(value, dict):
        for name, each in (item for entry in field.get("fields", ()) for item in entry.items()):
            if name in value:
                yield from secret_values({**each, "encrypted": True} if is_secret(field) else each, value[name])
