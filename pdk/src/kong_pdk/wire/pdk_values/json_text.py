"""JSON bodies that are encoded here, because Lua or the protocol would lose a part of the value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kong_pdk.wire.text import decode
from kong_pdk.wire.wire_errors import ArgumentError, too_deep

TYPE = "application/json; charset=utf-8"
"""The Content-Type of a body that Kong makes of a table."""


def text(function: str, value: object) -> str:
    """Encode a value as compact JSON, as Kong does.

    :param function: the PDK function, for the message of an error.
    :raises ArgumentError: JSON does not have such a value.
    """
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_bytes_as_text)
    except RecursionError as error:
        raise too_deep(function) from error
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{function}: {error}") from error


def _bytes_as_text(value: object) -> object:
    if isinstance(value, bytes):
        return decode(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be sent to Kong")


def needed(function: str, value: object) -> bool:
    """Whether a protocol or Lua would change a value: null, false, or an empty list, which Lua encodes as an object.

    :param function: the PDK function, for the message of an error.
    :raises ArgumentError: the value contains itself.
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
    """Add the Content-Type of a JSON body, where the author gives none."""
    if any(str(header).lower() == "content-type" for header in headers):
        return dict(headers)
    return {**headers, "content-type": TYPE}
