"""Checks of PDK arguments, which raise Refused where Kong's Lua code raises an error."""

from __future__ import annotations

import math
from typing import Any

from kong_pdk.gateway.exchange import Refused

MAXIMUM_DEFAULT = 100
MAXIMUM_LIMIT = 1000


def lua_type(value: object) -> str:
    """The name of a value's type in Lua."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "table"


def string(name: str, value: object) -> str:
    """``value``, which must be a string. Raises Refused."""
    if not isinstance(value, str):
        raise Refused(f"{name} must be a string, got {lua_type(value)}")
    return value


def number(name: str, value: object) -> int | float:
    """``value``, which must be a number. Raises Refused."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Refused(f"{name} must be a number, got {lua_type(value)}")
    return value


def integer(name: str, value: object, least: int, most: int) -> int:
    """``value``, which must be an integral number from ``least`` to ``most``. Raises Refused."""
    checked = number(name, value)
    if not math.isfinite(checked) or checked != int(checked):
        raise Refused(f"{name} must be an integer, got {checked}")
    if not least <= checked <= most:
        raise Refused(f"{name} must be an integer between {least} and {most}: given {checked}")
    return int(checked)


def status(value: object, least: int) -> int:
    """``value`` without its fraction, which must be a status from ``least`` to 599. Raises Refused."""
    code = number("code", value)
    if not least <= code <= 599:  # also False for NaN
        raise Refused(f"code must be a number between {least} and 599")
    return int(code)


def table(name: str, value: object) -> dict[str, Any]:
    """``value``, which must be a table with string keys; an empty list counts as one. Raises Refused."""
    if value == []:
        return {}
    if not isinstance(value, dict):
        raise Refused(f"{name} must be a table, got {lua_type(value)}")
    return value


def maximum(name: str, value: object) -> int:
    """The maximal number of headers or arguments to return: 1 to 1000, by default 100. Raises Refused."""
    if value is None:
        return MAXIMUM_DEFAULT
    count = number(name, value)
    if count < 1:
        raise Refused(f"{name} must be >= 1")
    if count > MAXIMUM_LIMIT:
        raise Refused(f"{name} must be <= {MAXIMUM_LIMIT}")
    return int(count)
