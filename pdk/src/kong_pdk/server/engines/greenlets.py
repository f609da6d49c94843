"""The engine ``loop``: each event runs on a greenlet of the loop's thread, and waits by going back to the loop."""

from __future__ import annotations

import functools
import logging
import select
import sys
from types import FrameType
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet  # type: ignore[import-untyped, unused-ignore]

from kong_pdk.exception_text import describe
from kong_pdk.logs import report
from kong_pdk.server.bridge import Bridge, EventExpired
from kong_pdk.server.connection import BLOCKING, Connection
from kong_pdk.server.deadlines import raise_in_thread
from kong_pdk.server.engines import (
    DEFAULT_LIMITS,
    Engine,
    Job,
    Limits,
    Parking,
    do_nothing,
    frames_of_thread,
    outwards,
)
from kong_pdk.server.engines.separate_asyncio import separate
from kong_pdk.server.engines.threads import ThreadParking
from kong_pdk.server.loop import EpollLoop, Loop, get_ident

_log = logging.getLogger(__name__)
_HUB_SECONDS = 1.0


class GreenletParking(Parking):
    """Goes back to the loop."""

    __slots__ = ("_greenlet", "_loop", "_woken")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._greenlet: Any = None
        self._woken = False

    def wait(self) -> None:
        """See :class:`Parking`."""
        me = self._greenlet = getcurrent()
        self._loop.parked.add(me)
        try:
            while not self._woken:
                self._loop.hub.switch()
        finally:
            self._greenlet = None
            self._loop.parked.discard(me)

    def wake(self) -> None:
        """See :class:`Parking`."""
        self._woken = True
        if getcurrent() is self._loop.hub:
            self._switch()
        else:
            self._loop.call_here(self._switch)

    def _switch(self) -> None:
        if self._greenlet is not None:
            self._greenlet.switch()


class Greenlets(Engine):
    """Greenlets of one loop. They are used again: a new one costs as much as the rest of a small event."""

    blocks = False

    def __init__(self, loop: Loop, limits: Limits = DEFAULT_LIMITS) -> None:
        """:param loop: runs on the same thread."""
        super().__init__(limits)
        loop.crowd = min(loop.crowd, limits.waiting)
        self.waits = self
        self._loop = loop
        self._free: list[Any] = []
        if "asyncio" in sys.modules and isinstance(loop, EpollLoop):  # it costs each event some time
            loop.call(separate)
        self._count = 0

    def parking(self) -> Parking:
        """See :class:`Engine`."""
        return GreenletParking(self._loop) if get_ident() == self._loop.thread else ThreadParking()

    @property
    def is_idle(self) -> bool:
        """Whether no job is under way."""
        return len(self._free) == self._count

    def where(self) -> Any:
        """See :class:`Engine`."""
        return getcurrent()

    def frames_of(self, bridge: Bridge) -> list[FrameType]:
        """See :class:`Engine`."""
        frame = bridge.where.gr_frame
        return frames_of_thread(self._loop.thread) if frame is None else outwards(frame)

    def interrupt(self, bridge: Bridge) -> None:
        """See :class:`Engine`. A greenlet that runs holds its thread; one that waits gets the exception there."""
        if bridge.where.gr_frame is None:
            raise_in_thread(self._loop.thread, EventExpired)
        else:
            self._loop.call_here(functools.partial(self._throw, bridge))

    def holds_loop(self, bridge: Bridge) -> bool:
        """See :class:`Engine`: other events may have begun on the thread before it was held."""
        return bridge.where.gr_frame is None and self._count - len(self._free) > 1

    @staticmethod
    def _throw(bridge: Bridge) -> None:
        if not bridge.is_closed and bridge.where.gr_frame is not None:
            bridge.where.throw(EventExpired)

    def run(self, job: Job, refuse: Job, queued: Job = do_nothing) -> None:
        """See :class:`Engine`."""
        if get_ident() != self._loop.thread:  # the loop that read the event was replaced at this moment
            self._loop.call(lambda: self.run(job, refuse, queued))
        elif self._loop.behind and self._loop.behind >= self._room:
            self._refuse(refuse)
        elif self._free and not self._waiting:
            self._free.pop().switch(job)
        else:
            super().run(job, refuse, queued)

    @property
    def _room(self) -> int:
        """How many more jobs may run and wait, if those that wait in the engine's own queue are left out."""
        running, waiting = self._limits
        return running - (self._count - len(self._free)) + waiting

    def _start(self, job: Job) -> bool:
        if self._free:
            self._free.pop().switch(job)
            return True
        if self._count >= self._limits.running:
            return False
        self._count += 1
        greenlet(self._work, self._loop.hub).switch(job)
        return True

    def _work(self, job: Job) -> None:
        me, free = getcurrent(), self._free
        while True:
            try:
                job()
            except GreenletExit:  # the interpreter ends
                return
            except BaseException as error:  # noqa: BLE001  # the greenlet serves other events
                report(_log, logging.ERROR, "the end of an event was interrupted: %s", describe(error))
            next_job = self.next_job()
            if next_job is None:
                free.append(me)
            while next_job is None:
                try:
                    next_job = self._loop.hub.switch()
                except GreenletExit:  # noqa: PERF203  # the interpreter ends
                    return
                except BaseException as error:  # noqa: BLE001  # of a timer that a handler left running
                    report(_log, logging.DEBUG, "an exception interrupted an idle greenlet: %s", describe(error))
            job = next_job

    def look_after(self) -> None:
        """See :class:`Engine`."""
        if get_ident() == self._loop.thread:
            super().look_after()
        else:
            self._loop.call(self.look_after)

    def refuse_waiting(self) -> None:
        """See :class:`Engine`."""
        if get_ident() == self._loop.thread:
            super().refuse_waiting()
        else:
            self._loop.call(self.refuse_waiting)

    def _refuse(self, refuse: Job) -> None:
        greenlet(refuse, self._loop.hub).switch()

    def wait_to_read(self, connection: Connection) -> None:
        """See :class:`~kong_pdk.server.connection.Waits`."""
        loop, me = self._loop, getcurrent()
        if connection.watched_by is not loop or me is loop.hub or get_ident() != loop.thread:
            self.wait(connection, select.POLLIN, None)
            return
        fd = connection.fd
        loop.waiting[fd] = me
        try:
            loop.hub.switch()
        except BaseException:
            loop.waiting.pop(fd, None)
            raise

    def wait(self, connection: Connection, events: int, seconds: float | None) -> None:
        """See :class:`~kong_pdk.server.connection.Waits`. Another thread, which the plugin started, waits by itself."""
        if get_ident() != self._loop.thread:
            BLOCKING.wait(connection, events, seconds)
        elif getcurrent() is self._loop.hub:  # an answer without a handler, to a peer that does not read
            BLOCKING.wait(connection, events, _HUB_SECONDS)
        else:
            self._loop.wait(connection, events, seconds)
