"""The few rules of Lua that Kong's schema checks rest on: equality, length, and values as text."""

from __future__ import annotations


def identity(value: object) -> object:
    """A key that is equal for values that Lua finds equal: numbers by value, and each table only itself."""
    if value is None or isinstance(value, bool):
        return ("constant", value)
    if isinstance(value, int | float):
        return ("number", value)
    return ("string", value) if isinstance(value, str) else ("table", id(value))


def equal(left: object, right: object) -> bool:
    """Lua's ``==``."""
    return identity(left) == identity(right)


def text(value: object) -> str:
    """Lua's ``tostring`` of a JSON value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        try:
            return f"{value:.14g}"
        except OverflowError:
            return str(value)
    return str(value)


def length(value: str | list[object] | dict[str, object]) -> int:
    """Lua's ``#``: a string counts in bytes."""
    return len(value.encode("utf-8", "surrogateescape")) if isinstance(value, str) else len(value)
