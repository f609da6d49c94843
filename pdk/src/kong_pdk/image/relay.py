"""Gives each line of each program the one form that all log lines of the container have."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Protocol

from kong_pdk import json_log

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

    def __init__(
        self,
        out: Sink,
        err: Sink,
        clock: Callable[[], float] = time.time,
        least: str = "notice",
        form: str = "text",
    ) -> None:
        """Write what comes from a program's standard output to ``out``, the rest to ``err``.

        :param clock: seconds since the epoch.
        :param least: the lowest level at which ``say`` writes.
        :param form: ``text``, or ``json`` for an object a line.
        """
        self._put = self._put_object if form == "json" else self._put_line
        self._json = form == "json"
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
        while len(rest) > MAX_LINE:
            end = _end_of_text(rest)
            lines.append(rest[:end])
            rest = rest[end:]
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
            for line in [text] if self._json else text.splitlines():
                self._put("stderr", None, level.encode(), program.encode(), line.encode(errors="surrogateescape"))

    def _channel(self, program: str, channel: str) -> _Channel:
        key = (program, channel)
        if key not in self._channels:
            self._channels[key] = _Channel(program, b"info" if channel == "stdout" else b"notice")
        return self._channels[key]

    def _write(self, state: _Channel, channel: str, line: bytes) -> None:
        line = line.rstrip(b"\r")
        if not line.strip():
            return
        if self._json and (entry := json_log.decode(line)) is not None and entry.level in LEVELS:
            state.last_level, state.last_time = entry.level.encode(), self._clock()
            self._put_entry(channel, entry._replace(program=state.program.decode()))
            return
        stamp, level, text = self._parts(state, channel, line)
        state.last_level, state.last_time = level, self._clock()
        self._put(channel, stamp, level, state.program, text)

    def _parts(self, state: _Channel, channel: str, line: bytes) -> tuple[bytes | None, bytes, bytes]:
        """Give a line's own time, None where it has none, its level, and the rest."""
        stamped = _STAMPED.fullmatch(line)
        if stamped is None:
            return None, self._level(state, channel, line), line
        stamp, level, text = stamped.groups()
        return stamp, level.replace(b"verbose", b"debug"), text.removeprefix(state.program + b": ")

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

    def _put_line(self, channel: str, stamp: bytes | None, level: bytes, program: bytes, text: bytes) -> None:
        if stamp is None:
            stamp = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(self._clock())).encode()
        self._sinks[channel].write(b"%s [%s] %s: %s\n" % (stamp, level, program, text))

    def _put_object(self, channel: str, stamp: bytes | None, level: bytes, program: bytes, text: bytes) -> None:
        own = None if stamp is None else json_log.timestamp_of_nginx(stamp.decode())
        when = own or json_log.timestamp(self._clock())
        message = text.decode("utf-8", "backslashreplace")
        self._put_entry(channel, json_log.Entry(when, level.decode(), program.decode(), message))

    def _put_entry(self, channel: str, entry: json_log.Entry) -> None:
        for line in json_log.encode(entry):
            self._sinks[channel].write(line.encode() + b"\n")


def _end_of_text(data: bytes) -> int:
    """Give where to cut what is too long for a line: at its most, but not within a character of UTF-8."""
    for end in range(MAX_LINE, MAX_LINE - 4, -1):
        if data[end] & 0xC0 != 0x80:
            return end
    return MAX_LINE
