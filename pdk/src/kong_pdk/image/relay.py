"""Gives each line of each program the one form that all log lines of the container have."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Protocol

MAX_LINE = 16 * 1024
"""Bytes after which a line without an end is cut in two: what Docker takes for one entry of its log."""

LEVELS = ("debug", "info", "notice", "warn", "error", "crit", "alert", "emerg")

_LEVELS = "|".join(LEVELS).encode()
# `verbose` is what `kong docker-start --v` has in the place of debug.
_STAMPED = re.compile(rb"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(" + _LEVELS + rb"|verbose)\] (.*)", re.DOTALL)
_LEVEL_OF_TEXT = (
    (re.compile(rb"nginx: \[(" + _LEVELS + rb")\] "), b""),
    (re.compile(rb"(Error|ERROR|error|Fatal|FATAL)\b.{0,40}?:|Traceback \(most recent call last\)"), b"error"),
    (re.compile(rb"(WARN(ING)?|[Ww]arn(ing)?)\b.{0,40}?:|\S+:\d+: \w*Warning: "), b"warn"),
)
_CONTINUED_SECONDS = 1.0


class Sink(Protocol):
    """Where lines go."""

    def write(self, line: bytes) -> None:
        """Take a line with its end."""


class _Channel:
    """Standard output or error of one program: what of its last line is still to come, and how that began."""

    def __init__(self, program: str, default_level: bytes) -> None:
        self.program = program.encode()
        self.default_level = default_level
        self.partial = b""
        self.last_level = default_level
        self.last_time = 0.0


class Relay:
    """Takes what programs write, in pieces of any size, and writes lines."""

    def __init__(self, out: Sink, err: Sink, clock: Callable[[], float] = time.time, least: str = "notice") -> None:
        """Write what comes from a program's standard output to ``out``, the rest to ``err``.

        :param clock: seconds since the epoch.
        :param least: the lowest level at which ``say`` writes.
        """
        self._sinks = {"stdout": out, "stderr": err}
        self._clock = clock
        self._least = LEVELS.index(least) if least in LEVELS else LEVELS.index("notice")
        self._channels: dict[tuple[str, str], _Channel] = {}

    def feed(self, program: str, channel: str, data: bytes) -> None:
        """Take a piece of what a program wrote.

        :param channel: ``stdout`` or ``stderr``.
        """
        state = self._channel(program, channel)
        *lines, rest = (state.partial + data).split(b"\n")
        while len(rest) >= MAX_LINE:
            lines.append(rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
        state.partial = rest
        for line in lines:
            self._write(state, channel, line)

    def end(self, program: str) -> None:
        """Write what a program that ended left without a line end."""
        for (name, channel), state in self._channels.items():
            if name == program and state.partial:
                line, state.partial = state.partial, b""
                self._write(state, channel, line)

    def say(self, level: str, text: str, program: str = "supervisord") -> None:
        """Write lines of our own, unless their level is too low."""
        if LEVELS.index(level) >= self._least:
            for line in text.splitlines():
                self._put(
                    "stderr", self._now(), level.encode(), program.encode(), line.encode(errors="surrogateescape")
                )

    def _channel(self, program: str, channel: str) -> _Channel:
        key = (program, channel)
        if key not in self._channels:
            self._channels[key] = _Channel(program, b"info" if channel == "stdout" else b"notice")
        return self._channels[key]

    def _write(self, state: _Channel, channel: str, line: bytes) -> None:
        line = line.rstrip(b"\r")
        if not line.strip():
            return
        stamped = _STAMPED.fullmatch(line)
        if stamped:
            stamp, level, text = stamped.groups()
            level = level.replace(b"verbose", b"debug")
            text = text.removeprefix(state.program + b": ")
        else:
            stamp, level, text = self._now(), self._level(state, channel, line), line
        state.last_level, state.last_time = level, self._clock()
        self._put(channel, stamp, level, state.program, text)

    def _level(self, state: _Channel, channel: str, line: bytes) -> bytes:
        """Give the level of a line that has none: by how it begins, or that of the line it continues."""
        if channel == "stdout":
            return state.default_level
        for pattern, level in _LEVEL_OF_TEXT:
            found = pattern.match(line)
            if found:
                return level or bytes(found.group(1))
        serious = LEVELS.index(state.last_level.decode()) > LEVELS.index(state.default_level.decode())
        continued = self._clock() - state.last_time <= _CONTINUED_SECONDS
        return state.last_level if serious and continued else state.default_level

    def _now(self) -> bytes:
        return time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(self._clock())).encode()

    def _put(self, channel: str, stamp: bytes, level: bytes, program: bytes, text: bytes) -> None:
        self._sinks[channel].write(b"%s [%s] %s: %s\n" % (stamp, level, program, text))
