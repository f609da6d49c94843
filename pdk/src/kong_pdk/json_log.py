"""Log lines as JSON objects: ``{"time": ..., "level": ..., "program": ..., "message": ...}``.

An object is a line of ASCII, whatever bytes a program wrote, so that every reader accepts it. Bytes that are not UTF-8
are escaped in the message as ``\\xff``.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

MAX_OBJECT = 16 * 1024 - 1
"""Bytes of an object without its line end: Docker splits log lines at 16 KiB."""

_KEYS = {"time", "level", "program", "message"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", re.ASCII)
_ENCODER = json.JSONEncoder(separators=(",", ":"))


class Entry(NamedTuple):
    """An entry of a log. ``time`` has the form of RFC 3339, with an offset."""

    time: str
    level: str
    program: str
    message: str


def encode(entry: Entry) -> Iterator[str]:
    """Encode an entry as an object without line end, or as several objects where its message is too long.

    A long message is cut at line ends where possible.
    """
    message = entry.message.encode("utf-8", "backslashreplace").decode("utf-8")
    values = {"time": entry.time, "level": entry.level, "program": entry.program, "message": message}
    text = _ENCODER.encode(values)
    if len(text) <= MAX_OBJECT or len(message) < 2:
        yield text
        return
    for half in _halves(message):
        yield from encode(entry._replace(message=half))


def _halves(message: str) -> tuple[str, str]:
    middle = len(message) // 2
    end = message.rfind("\n", 1, middle)
    if end < 0:
        end = message.find("\n", middle, len(message) - 1)
    return (message[:middle], message[middle:]) if end < 0 else (message[:end], message[end + 1 :])


def decode(line: bytes) -> Entry | None:
    """Decode an object that :func:`encode` made; None for any other line."""
    if not line.startswith(b'{"time":'):
        return None
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if set(values) != _KEYS or not all(isinstance(value, str) for value in values.values()):
        return None
    return Entry(**values) if _TIME.fullmatch(values["time"]) else None


def timestamp(seconds: float) -> str:
    """Format a time as in RFC 3339, to the second as in Kong's own log, with this machine's offset.

    :param seconds: since the epoch.
    """
    return _timestamp(int(seconds))


# Cached: a busy Kong writes thousands of lines a second.
@functools.lru_cache(maxsize=4)
def _timestamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


@functools.lru_cache(maxsize=4)
def timestamp_of_nginx(stamp: str) -> str | None:
    """Convert a time of nginx's error log, ``2026/11/23 04:40:51``, to RFC 3339; None for an invalid time."""
    try:
        return datetime.strptime(stamp, "%Y/%m/%d %H:%M:%S").astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        return None
