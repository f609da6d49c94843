"""Reads and writes query strings and forms like nginx, and ``multipart/form-data`` like Kong."""

from __future__ import annotations

import re
import secrets
from urllib.parse import quote, quote_plus

from kong_pdk.gateway.exchange import Refused
from kong_pdk.gateway.pdk.checks import lua_type
from kong_pdk.gateway.pdk.lua_values import by_name, tostring
from kong_pdk.wire.text import decode, encode

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
Arguments = dict[str, "str | bool | list[str | bool]"]


def unescape(text: bytes) -> str:
    """Decode ``%XX`` and ``+``. An invalid escape stays unchanged."""
    return decode(_ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), text.replace(b"+", b" ")))


def pairs(raw: bytes, maximum: int | None = None) -> list[tuple[str, str | bool]]:
    """The arguments in order. An argument without ``=`` has the value True; one without a name is skipped."""
    arguments: list[tuple[str, str | bool]] = []
    for part in raw.split(b"&"):
        if maximum is not None and len(arguments) >= maximum:
            break
        name, equals, value = part.partition(b"=")
        if name:
            arguments.append((unescape(name), unescape(value) if equals else True))
    return arguments


def parse(raw: bytes, maximum: int | None = None) -> Arguments:
    """The first ``maximum`` arguments by name. A repeated argument has a list of values."""
    return by_name(pairs(raw, maximum))


def _escape(text: str) -> str:
    return quote(encode(text), safe="-._~!*'()")


def build(arguments: dict[str, object]) -> bytes:
    """A query string with sorted names. True is written as the name only, False is skipped. Raises Refused."""
    parts: list[str] = []
    for name in sorted(arguments, key=tostring):
        value = arguments[name]
        for item in value if isinstance(value, list) else [value]:
            if item is None or isinstance(item, (dict, list)):
                raise Refused(f"invalid query argument '{name}': got {lua_type(item)}, expected string")
            if item is True:
                parts.append(_escape(tostring(name)))
            elif item is not False:
                parts.append(f"{_escape(tostring(name))}={_escape(tostring(item))}")
    return "&".join(parts).encode()


def without(raw: bytes, name: str) -> bytes:
    """A query string without one argument. As in Kong, the others are encoded again."""
    kept = (
        f"{quote_plus(encode(key))}={'' if value is True else quote_plus(encode(str(value)))}"
        for key, value in pairs(raw)
        if key != name
    )
    return "&".join(kept).encode()


_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)
_NAME = re.compile(rb'name="([^"]*)"')


def boundary(content_type: str) -> str | None:
    """The boundary in a Content-Type, if there is one."""
    match = _BOUNDARY.search(content_type)
    return match[1] if match else None


def parse_multipart(content_type: str, content: bytes) -> dict[str, str] | None:
    """The parts by name; None without a boundary."""
    mark = boundary(content_type)
    if mark is None:
        return None
    parts: dict[str, str] = {}
    for part in (b"\r\n" + content).split(b"\r\n--" + encode(mark))[1:]:
        head, separator, value = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if separator and name:
            parts[decode(name[1])] = decode(value)
    return parts


def build_multipart(fields: dict[str, object], mark: str | None) -> tuple[str, bytes]:
    """The boundary and the body of a multipart form. ``mark`` is the boundary to use; None makes a new one."""
    mark = mark or secrets.token_hex(16)
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{tostring(name)}"\r\n\r\n{tostring(fields[name])}\r\n'
        for name in sorted(fields, key=tostring)
    ]
    return mark, encode("".join(parts) + f"--{mark}--\r\n")
