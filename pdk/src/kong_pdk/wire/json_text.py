"""JSON made here, where Lua's or the protocol's own way would lose a part of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

TYPE = "application/json; charset=utf-8"
"""What Kong says of a body that it makes of a table."""


def text(value: object) -> str:
    """Write JSON as Kong does, compact.

    :raises TypeError: a type that JSON does not have.
    """
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def needed(value: object) -> bool:
    """Say whether a protocol or Lua would change a value: null, false, or an empty list, which Lua takes for a map."""
    if isinstance(value, Mapping):
        return any(needed(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return not value or any(needed(item) for item in value)
    return value is None or value is False


def with_type(headers: Mapping[Any, Any]) -> dict[Any, Any]:
    """Add the type of a body that is JSON, where the author gives none."""
    if any(str(header).lower() == "content-type" for header in headers):
        return dict(headers)
    return {**headers, "content-type": TYPE}
