"""Headers as in Lua: names are case-insensitive, ``_`` stands for ``-``, and there are one or more values."""

from __future__ import annotations

from typing import Any

from kong_pdk.gateway.exchange import RawHeaders, Refused
from kong_pdk.gateway.pdk.checks import lua_type
from kong_pdk.gateway.pdk.lua_values import by_name, tostring
from kong_pdk.wire.text import decode, encode


def get(headers: RawHeaders, name: str) -> str | None:
    """The first value of a header, or None."""
    lowered = encode(name).lower().replace(b"_", b"-")
    for key, value in headers:
        if key.lower() == lowered:
            return decode(value)
    return None


def get_all(headers: RawHeaders, maximum: int) -> dict[str, str | list[str]]:
    """The first ``maximum`` headers by name in lower case. A repeated header has a list of values."""
    return by_name((decode(key.lower()), decode(value)) for key, value in headers[:maximum])


def values(name: str, value: object) -> list[bytes]:
    """The values of a header that a plugin sets: strings, numbers or booleans. Raises Refused for others."""
    items = value if isinstance(value, list) else [value]
    for item in items:
        if item is None or isinstance(item, (dict, list)):
            raise Refused(
                f"invalid value for {name!r}: must be a string, number, boolean or array of strings, "
                f"got {lua_type(item)}"
            )
    return [_escaped(tostring(item)) for item in items]


def _escaped(text: str) -> bytes:
    # nginx escapes characters that would end the header.
    return encode(text).replace(b"\r", b"%0D").replace(b"\n", b"%0A").replace(b"\0", b"%00")


def put(headers: RawHeaders, name: str, new: list[bytes]) -> None:
    """Replace all values of a header, at the index of the first. As in nginx, an empty name does nothing."""
    if not name:
        return
    key = _escaped(name)
    first = next(
        (index for index, (key_of_entry, _) in enumerate(headers) if key_of_entry.lower() == key.lower()), None
    )
    remove(headers, name)
    index = len(headers) if first is None else first
    headers[index:index] = [(key, value) for value in new]


def append(headers: RawHeaders, name: str, new: list[bytes]) -> None:
    """Add values to a header. As in nginx, an empty name does nothing."""
    if name:
        headers.extend((_escaped(name), value) for value in new)


def remove(headers: RawHeaders, name: str) -> None:
    """Remove all values of a header."""
    key = encode(name).lower()
    headers[:] = [entry for entry in headers if entry[0].lower() != key]


def checked(table: dict[str, Any]) -> list[tuple[str, list[bytes]]]:
    """The headers in a plugin's table, checked. Raises Refused."""
    for name in table:
        if not isinstance(name, str):
            raise Refused(f"invalid header name {name!r}: got {lua_type(name)}, expected string")
    return [(name, values(name, value)) for name, value in table.items()]
