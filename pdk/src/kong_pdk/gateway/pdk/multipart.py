"""``multipart/form-data``, as far as Kong reads and writes it."""

from __future__ import annotations

import re
import secrets

from kong_pdk.gateway.pdk.lua import tostring
from kong_pdk.wire.text import decode, encode

_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)
_NAME = re.compile(rb'name="([^"]*)"')


def boundary(content_type: str) -> str | None:
    """The boundary that a Content-Type names."""
    found = _BOUNDARY.search(content_type)
    return found[1] if found else None


def parse(content_type: str, content: bytes) -> dict[str, str] | None:
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


def build(fields: dict[str, object], mark: str | None) -> tuple[str, bytes]:
    """The boundary and the body of a form of ``fields``; ``mark`` is the boundary to use, if there is one."""
    mark = mark or secrets.token_hex(16)
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{tostring(name)}"\r\n\r\n{tostring(fields[name])}\r\n'
        for name in sorted(fields, key=tostring)
    ]
    return mark, encode("".join(parts) + f"--{mark}--\r\n")
