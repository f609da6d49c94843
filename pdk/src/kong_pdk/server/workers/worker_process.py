"""A worker, as its master sees it: its process, what is sent to it and received from it, and its connections."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import time
from collections.abc import Iterator

from kong_pdk.server.event_record import STATE, UNDER_WAY, RecordTable, due_of
from kong_pdk.server.workers.held_connections import Held
from kong_pdk.wire.msgpack_codec import Message, Messages

_CHUNK = 64 * 1024
# The zeros of a moment that a worker is writing, in all of its bytes or in the highest ones, read as less than that.
_BEING_WRITTEN = 1e-9

MOST_PAUSE = 5.0
"""Seconds at most between the starts of a worker that ends again and again."""

MOST_PAUSE_AFTER_SERVING = 0.25
"""The same for a worker that was ready each time."""

TAKE_SECONDS = 30.0
"""A worker that reads nothing from its master for this long hangs."""

MOST_OUTGOING = 64 * 1024 * 1024
"""A worker for which this many bytes wait hangs."""


class WorkerProcess:
    """A worker, seen from its master."""

    def __init__(
        self, slot: int, pid: int, control: socket.socket, channel: socket.socket, records: RecordTable
    ) -> None:
        """:param slot: the number of the worker, from 0.

        :param control: the master's end of the control channel; it becomes non-blocking.
        :param channel: the master's end of the channel of connections.
        :param records: what the connections of the worker are at.
        """
        self.slot = slot
        self.pid = pid
        self.control = control
        self.channel = channel
        self.records = records
        self.held: dict[int, Held] = {}
        self.started_at = time.monotonic()
        self.ready = False
        self.failed = False
        self.is_retired = False
        """Whether it ends, so that another one takes its place."""
        self.kill_at = math.inf
        """When it is killed unless it has ended before, by ``time.monotonic``."""
        self.timeouts = (math.inf, math.inf)
        """The shortest and the longest timeout of its plugins, in seconds."""
        self.pinged_at: float | None = None
        """When it was pinged without an answer yet."""
        self.has_hung_up = False
        self._messages = Messages()
        self._outgoing = bytearray()
        self._waits_since: float | None = None
        self.is_killed = False
        control.setblocking(False)

    def received(self) -> Iterator[Message]:
        """Give the messages that the worker has sent. Sets ``has_hung_up`` once it has closed its end.

        :raises WireError: it sent something else than MessagePack-RPC.
        """
        while data := self._receive():
            yield from self._messages.feed(data)

    def _receive(self) -> bytes:
        try:
            data = self.control.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        self.has_hung_up = not data
        return data

    def send(self, data: bytes) -> bool:
        """Send data, and keep the part that a busy worker does not read now.

        :return: whether all data is sent.
        """
        if self.is_killed:
            return True
        self._outgoing += data
        try:
            while self._outgoing:
                del self._outgoing[: self.control.send(self._outgoing)]
                self._waits_since = time.monotonic()
        except BlockingIOError:
            self._waits_since = self._waits_since or time.monotonic()
            return False
        except OSError:  # it has ended
            self._outgoing.clear()
        self._waits_since = None
        return True

    @property
    def hangs_at(self) -> float | None:
        """When the worker counts as hanging unless it reads something before; None while no data waits for it."""
        if self._waits_since is None:
            return None
        return self._waits_since + TAKE_SECONDS if len(self._outgoing) <= MOST_OUTGOING else 0.0

    def kill(self) -> None:
        """Kill the process, and keep no data for it."""
        self.is_killed = True
        self._outgoing.clear()
        self._waits_since = None
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, which is not reaped yet."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def reap(self) -> int | None:
        """Give the exit code, negative for a signal, once the process has ended."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # the master was started with SIGCHLD ignored, so the kernel reaps its children
            return 0
        return os.waitstatus_to_exitcode(status) if pid else None

    def earliest_due(self) -> float:
        """Give when the first of its events is due, by ``time.monotonic``; infinite where none is."""
        records = (self.records.of(number) for number in self.held)
        dues = (due_of(record) for record in records if record is not None and record[STATE] in UNDER_WAY)
        return min((due for due in dues if due > _BEING_WRITTEN), default=math.inf)


def how_it_ended(code: int) -> str:
    """Describe an exit code, as ``os.waitstatus_to_exitcode`` gives it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"


def pause_after(failures: int, has_served: bool) -> float:
    """Give the seconds until a worker is started again: 0 the first time, then longer with each failure.

    :param has_served: whether the worker was ready. What ends such a worker may be a request, and a client that repeats
        it must not keep the others waiting.
    """
    pause = 2.0 ** min(failures - 1, 10) if failures else 0.0
    return min(pause, MOST_PAUSE_AFTER_SERVING if has_served else MOST_PAUSE)
