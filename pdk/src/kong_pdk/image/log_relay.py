"""Writes the lines of all programs in the form of the container's log, without waiting for the reader."""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable
from typing import Protocol

from kong_pdk import json_log
from kong_pdk.masking import without_long_secrets
from kong_pdk.settings import LOG_LEVELS

MAX_PENDING = 8 * 1024 * 1024
"""The most bytes that wait for a slow reader. Further lines are dropped and counted."""

# A pipe that polls as writable takes this many bytes without blocking (POSIX: PIPE_BUF). So the descriptor, which
# other processes may share, need not be made non-blocking.
_CHUNK = select.PIPE_BUF

_CLOSED = select.POLLERR | select.POLLHUP | select.POLLNVAL


MAX_LINE = 16 * 1024
"""The length in bytes at which a longer line is cut: the longest entry of Docker's log."""


_LEVELS = "|".join(LOG_LEVELS).encode()
# `kong docker-start --v` writes `verbose` for debug.
_STAMPED = re.compile(rb"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(" + _LEVELS + rb"|verbose)\] (.*)", re.DOTALL)
_LEVEL_OF_TEXT = (
    (re.compile(rb"nginx: \[(" + _LEVELS + rb")\] "), b""),
    (re.compile(rb"(Error|ERROR|error|Fatal|FATAL)\b.{0,40}?:|Traceback \(most recent call last\)"), b"error"),
    (re.compile(rb"(WARN(ING)?|[Ww]arn(ing)?)\b.{0,40}?:|\S+:\d+: \w*Warning: "), b"warn"),
)
_CONTINUED_SECONDS = 1.0


class Output:
    """A buffer in front of a descriptor. supervisord's loop calls it to write."""

    def __init__(self, fd: int, max_pending: int = MAX_PENDING) -> None:
        """:param fd: the descriptor; it is never closed here."""
        self.fd = fd
        self.dropped = 0
        self._max_pending = max_pending
        self._pending = bytearray()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, line: bytes) -> None:
        """Queue a line, or drop it if the buffer is full."""
        if len(self._pending) + len(line) > self._max_pending:
            self.flush()
        if len(self._pending) + len(line) > self._max_pending:
            self.dropped += 1
            return
        self._pending += line

    def flush(self, seconds: float = 0.0) -> bool:
        """Write as much as the reader takes.

        :param seconds: how long to wait for the reader.
        :return: whether the buffer is empty.
        """
        deadline = time.monotonic() + seconds
        while self._pending:
            ready = self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready:
                return False
            self._write_chunk(ready[0][1])
        return True

    def _write_chunk(self, events: int) -> None:
        if events & _CLOSED:
            # The reader is gone; later lines are lost in the same way.
            self._pending.clear()
            return
        try:
            written = os.write(self.fd, self._pending[:_CHUNK])
        except BlockingIOError:
            return
        except OSError:
            written = len(self._pending)
        del self._pending[:written]

    # supervisord's loop calls the following methods of every object that it watches.

    def readable(self) -> bool:
        """Never: the descriptor is for output."""
        return False

    def writable(self) -> bool:
        """Whether there is still something to write."""
        return not self.flush()

    def handle_write_event(self) -> None:
        """Write as much as the reader takes."""
        self.flush()

    def handle_error(self) -> None:
        """Nothing here raises."""


class Sink(Protocol):
    """The destination of lines."""

    def write(self, line: bytes) -> None:
        """Write a line, which has its line end."""


class _Channel:
    """The state of standard output or error of one program: its unfinished line, and the level of its last line."""

    def __init__(self, program: str, default_level: bytes) -> None:
        self.program = program.encode()
        self.default_level = default_level
        self.partial = b""
        self.last_level = default_level
        self.last_time = 0.0


class Relay:
    """Takes the output of programs in pieces of any size, and writes it line by line."""

    def __init__(
        self,
        out: Sink,
        err: Sink,
        clock: Callable[[], float] = time.time,
        least: str = "notice",
        form: str = "text",
    ) -> None:
        """Write lines of a program's standard output to ``out``, others to ``err``.

        :param clock: seconds since the epoch.
        :param least: the lowest level at which ``log`` writes.
        :param form: ``text``, or ``json`` for one object a line.
        """
        self._put = self._put_object if form == "json" else self._put_line
        self._json = form == "json"
        self._sinks = {"stdout": out, "stderr": err}
        self._clock = clock
        self._least = LOG_LEVELS.index(least) if least in LOG_LEVELS else LOG_LEVELS.index("notice")
        self._channels: dict[tuple[str, str], _Channel] = {}

    def feed(self, program: str, channel: str, data: bytes) -> None:
        """Take a piece of a program's output.

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
        """Write the unfinished line of a program that has ended."""
        for (name, channel), state in self._channels.items():
            if name == program and state.partial:
                line, state.partial = state.partial, b""
                self._write(state, channel, line)

    def log(self, level: str, text: str, program: str = "supervisord") -> None:
        """Write a message of the supervisor itself, unless its level is too low."""
        if LOG_LEVELS.index(level) >= self._least:
            for line in [text] if self._json else text.splitlines():
                self._put("stderr", None, level.encode(), program.encode(), line.encode(errors="surrogateescape"))

    def _channel(self, program: str, channel: str) -> _Channel:
        key = (program, channel)
        if key not in self._channels:
            self._channels[key] = _Channel(program, b"info" if channel == "stdout" else b"notice")
        return self._channels[key]

    def _write(self, state: _Channel, channel: str, line: bytes) -> None:
        line = without_long_secrets(line.rstrip(b"\r"))
        if not line.strip():
            return
        if self._json and (entry := json_log.decode(line)) is not None and entry.level in LOG_LEVELS:
            state.last_level, state.last_time = entry.level.encode(), self._clock()
            self._put_entry(channel, entry._replace(program=state.program.decode()))
            return
        stamp, level, text = self._parts(state, channel, line)
        state.last_level, state.last_time = level, self._clock()
        self._put(channel, stamp, level, state.program, text)

    def _parts(self, state: _Channel, channel: str, line: bytes) -> tuple[bytes | None, bytes, bytes]:
        """Split a line into its time (None if it has none), its level and its text."""
        stamped = _STAMPED.fullmatch(line)
        if stamped is None:
            return None, self._level(state, channel, line), line
        stamp, level, text = stamped.groups()
        return stamp, level.replace(b"verbose", b"debug"), text.removeprefix(state.program + b": ")

    def _level(self, state: _Channel, channel: str, line: bytes) -> bytes:
        """Choose the level of a line without one: by its beginning, or the level of the line that it continues."""
        if channel == "stdout":
            return state.default_level
        for pattern, level in _LEVEL_OF_TEXT:
            match = pattern.match(line)
            if match:
                return level or bytes(match.group(1))
        serious = LOG_LEVELS.index(state.last_level.decode()) > LOG_LEVELS.index(state.default_level.decode())
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
    """Give the place at which to cut a line that is too long, outside of UTF-8 characters."""
    for end in range(MAX_LINE, MAX_LINE - 4, -1):
        if data[end] & 0xC0 != 0x80:
            return end
    return MAX_LINE
