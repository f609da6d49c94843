"""JSON made here, where Lua's or the protocol's own way would lose a part of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kong_pdk.wire.text import decode
from kong_pdk.wire.wire_errors import ArgumentError, too_deep

TYPE = "application/json; charset=utf-8"
"""What Kong says of a body that it makes of a table."""


def text(function: str, value: object) -> str:
    """Write JSON as Kong does, compact.

    :param function: whose argument it is.
    :raises ArgumentError: what JSON does not have.
    """
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_known)
    except RecursionError as error:
        raise too_deep(function) from error
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{function}: {error}") from error


def _known(value: object) -> object:
    """Give what JSON has for what the protocols carry, too."""
    if isinstance(value, bytes):
        return decode(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be sent to Kong")


def needed(function: str, value: object) -> bool:
    """Say whether a protocol or Lua would change a value: null, false, or an empty list, which Lua takes for a map.

    :param function: whose argument it is.
    :raises ArgumentError: it has no end.
    """
    try:
        return _is_changed(value)
    except RecursionError as error:
        raise too_deep(function) from error


def _is_changed(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(_is_changed(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return not value or any(_is_changed(item) for item in value)
    return value is None or value is False


def with_type(headers: Mapping[Any, Any]) -> dict[Any, Any]:
    """Add the type of a body that is JSON, where the author gives none."""
    if any(str(header).lower() == "content-type" for header in headers):
        return dict(headers)
    return {**headers, "content-type": TYPE}
