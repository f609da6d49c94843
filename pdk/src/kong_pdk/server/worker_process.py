"""A worker as its master sees it: a process, and a line to it that never makes the master wait."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Collection, Iterator

from kong_pdk.server.contents import WorkerState
from kong_pdk.wire.msgpack import Message, Messages

MOST_PAUSE = 5.0
"""Seconds at most between the starts of a worker that ends again and again."""

TAKE_SECONDS = 30.0
MOST_OUTGOING = 64 * 1024 * 1024
"""A worker that takes nothing of what its master has for it for so long, or lets so many bytes come together, hangs."""

ANSWER_SECONDS = 3.0
"""After so long a worker that has not answered its master's ping counts as hanging."""

_CHUNK = 64 * 1024


class WorkerProcess:
    """One process that was forked for a slot."""

    def __init__(self, slot: int, pid: int, line: socket.socket, started_at: float) -> None:
        """:param line: the master's end; it is made non-blocking."""
        self.slot = slot
        self.pid = pid
        self.line = line
        self.started_at = started_at
        self.ready = False
        self.failed = False
        self.has_hung_up = False
        self._messages = Messages()
        self._outgoing = bytearray()
        self._waits_since: float | None = None
        self._is_given_up = False
        line.setblocking(False)

    def received(self) -> Iterator[Message]:
        """Give what the worker has said; nothing more once it has closed its end."""
        while data := self._receive():
            yield from self._messages.feed(data)

    def _receive(self) -> bytes:
        try:
            data = self.line.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        self.has_hung_up = not data
        return data

    def send(self, data: bytes) -> bool:
        """Send, or keep for later what a busy worker does not take now.

        :return: whether all is sent.
        """
        if self._is_given_up:
            return True
        self._outgoing += data
        try:
            while self._outgoing:
                del self._outgoing[: self.line.send(self._outgoing)]
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
        """When it counts as hanging unless it takes something before; None while nothing waits for it."""
        if self._waits_since is None:
            return None
        return self._waits_since + TAKE_SECONDS if len(self._outgoing) <= MOST_OUTGOING else 0.0

    def give_up(self) -> None:
        """Kill it, and keep nothing more for it."""
        self._is_given_up = True
        self._outgoing.clear()
        self._waits_since = None
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to a process that was not reaped yet."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def reap(self) -> int | None:
        """Give the exit code, negative for a signal, once the process has ended."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # SIGCHLD is ignored by whoever started the master
            return 0
        return os.waitstatus_to_exitcode(status) if pid else None


class RollCall:
    """One question for all workers, and who has not answered yet. The master asks when it is asked, not by itself."""

    def __init__(self, asker: WorkerProcess, request: int, called: Collection[WorkerProcess]) -> None:
        """:param asker: the worker that wants to know; request: what its question is answered by."""
        self.asker = asker
        self.request = request
        self.due = time.monotonic() + ANSWER_SECONDS
        self._called = list(called)
        self._silent = set(called)

    def answered(self, worker: WorkerProcess) -> None:
        """Note a sign of life."""
        self._silent.discard(worker)

    def ended(self, worker: WorkerProcess) -> None:
        """Expect nothing of a worker that has ended: another one takes its place."""
        self._silent.discard(worker)
        self._called = [each for each in self._called if each is not worker]

    @property
    def is_over(self) -> bool:
        """Whether all have answered, or had the time for it."""
        return not self._silent or time.monotonic() >= self.due

    def states(self) -> list[WorkerState]:
        """Say which workers there are, and which of them answer."""
        return [WorkerState(each.slot + 1, each.pid, each not in self._silent) for each in self._called]


def how_it_ended(code: int) -> str:
    """Put an exit code into words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"


def pause_after(failures: int) -> float:
    """Give the seconds until a worker is started: none at first, then longer and longer where that did not help."""
    return min(2.0 ** min(failures - 1, 10), MOST_PAUSE) if failures else 0.0
