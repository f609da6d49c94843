"""The streams of the gateway's logs, and the error log in nginx's format."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TextIO

from kong_pdk.settings import LOG_LEVELS

PROGRAM = "kong"

_STREAMS = {"/dev/stdout": "stdout", "/dev/stderr": "stderr"}


class Stream:
    """A text stream for log lines. Each line is one write, so lines of several tasks are never mixed."""

    def __init__(self, target: TextIO, owned: bool = False) -> None:
        self._target = target
        self._owned = owned

    def write(self, line: str) -> None:
        """Write one line. Errors are ignored: a closed pipe or a full disk must not fail requests."""
        try:
            self._target.write(line + "\n")
            self._target.flush()
        except (OSError, ValueError):
            return

    def close(self) -> None:
        if self._owned:
            self._target.close()


def open_stream(destination: str, prefix: Path) -> Stream | None:
    """The stream for a log setting: a path (relative to the prefix), ``/dev/stdout`` or ``off`` (None).

    Raises OSError when the file cannot be opened.
    """
    if destination == "off":
        return None
    path = prefix / destination
    # Kong's entrypoint links its logs to /dev/stdout and /dev/stderr, which may not be openable by name.
    target = path.readlink() if path.is_symlink() and destination not in _STREAMS else path
    if str(target) in _STREAMS:
        return Stream(getattr(sys, _STREAMS[str(target)]))
    path.parent.mkdir(parents=True, exist_ok=True)
    return Stream(path.open("a", encoding="utf-8", errors="backslashreplace"), owned=True)


class ErrorLog:
    """Writes ``YYYY/MM/DD HH:MM:SS [level] kong: text`` for each message at or above a level."""

    def __init__(self, stream: Stream | None, level: str = "notice") -> None:
        self._stream = stream
        self._threshold = LOG_LEVELS.index(level)

    def set_level(self, level: str) -> None:
        """Write only messages at or above this level from now on."""
        self._threshold = LOG_LEVELS.index(level)

    def write(self, level: str, message: str) -> None:
        """Write a message with one of nginx's levels; each line of it becomes a line of the log."""
        if self._stream is None or LOG_LEVELS.index(level) < self._threshold:
            return
        stamp = time.strftime("%Y/%m/%d %H:%M:%S")
        text = message.encode("utf-8", "backslashreplace").decode("utf-8")
        for line in text.splitlines() or [""]:
            self._stream.write(f"{stamp} [{level}] {PROGRAM}: {line}")

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
