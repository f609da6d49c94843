"""Finds handlers that hold the loop: while one sleeps or computes, no other event of the loop goes on."""

from __future__ import annotations

import contextlib
import os
import time
from typing import NamedTuple

from kong_pdk.exception_text import running_line
from kong_pdk.server.engines import frames_of_thread
from kong_pdk.server.handler import call_handler
from kong_pdk.server.instances import Instance
from kong_pdk.server.loop import EpollLoop

_QUIET_LOOKS = 5
_CASES_OF_DOUBT = 5
_AGAIN_SECONDS = 0.002


class Holder(NamedTuple):
    """A handler that holds the loop."""

    instance: Instance
    phase: str
    place: str
    """``FILE:LINE`` of the plugin's code."""


class _Times(NamedTuple):
    """Of the loop's thread, but for the last two: how long it has run, and waited for a processor, in seconds."""

    ran: float
    queued: float
    process_ran: float
    now: float


class Watchdog:
    """Looks at a loop at short intervals while it has something to do."""

    def __init__(self, loop: EpollLoop) -> None:
        """:param loop: runs already."""
        self.loop = loop
        self._clock = time.pthread_getcpuclockid(loop.thread)
        self._queue: int | None = None
        with contextlib.suppress(OSError):  # a kernel without these numbers
            self._queue = os.open(f"/proc/self/task/{loop.native_thread}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        self._turn = -1
        self._times = self._measure()
        self._quiet = 0
        self._doubts = 0

    def close(self) -> None:
        if self._queue is not None:
            os.close(self._queue)
            self._queue = None

    @property
    def is_quiet(self) -> bool:
        """Whether the loop has had nothing to do for some looks."""
        return self._quiet >= _QUIET_LOOKS

    def look(self) -> bool:
        """Look at the loop; tell whether a handler has held it since the last look."""
        turn, was = self.loop.turn, self._turn
        self._turn = turn
        times, before = self._measure(), self._times
        self._times = times
        if self.loop.is_looking or turn != was:
            self._doubts = 0
            self._quiet = self._quiet + 1 if turn == was else 0
            return False
        passed = times.now - before.now
        ran = times.ran - before.ran
        if (
            times.queued - before.queued > passed / 2
        ):  # the kernel gave it no processor: that is no fault of the handler
            return False
        others_ran = times.process_ran - before.process_ran - ran
        if ran < passed / 2 and others_ran > passed / 2:  # most likely it waits for the interpreter, which others use
            self._doubts += 1
            return self._doubts >= _CASES_OF_DOUBT
        return True

    def is_still_held(self) -> bool:
        """Look again, a moment later: a machine that stood still for a while has not been held by a handler."""
        turn = self.loop.turn
        time.sleep(_AGAIN_SECONDS)
        return self.loop.turn == turn and not self.loop.is_looking

    def holder(self) -> Holder | None:
        """Find the handler that holds the loop; None where none does any more."""
        frames = frames_of_thread(self.loop.thread)
        codes = [frame.f_code for frame in frames]
        if call_handler.__code__ not in codes:
            return None
        place = codes.index(call_handler.__code__)
        instance, phase = (frames[place].f_locals[name] for name in ("instance", "phase"))
        file = instance.plugin.file
        return Holder(instance, phase, running_line(file, frames[:place]) or str(file))

    def _measure(self) -> _Times:
        ran = queued = 0.0
        with contextlib.suppress(OSError, ValueError):
            ran = time.clock_gettime(self._clock)
            if self._queue is not None:
                queued = int(os.pread(self._queue, 100, 0).split()[1]) / 1e9
        return _Times(ran, queued, time.process_time(), time.monotonic())
