"""Ends events that take too long: the request gets its answer, whatever the handler goes on to do.

Time in which the handler waits for Kong does not count, for a slow client's body for example: Kong has nothing to wait
for then.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kong_pdk.exception_text import line_of, running_line
from kong_pdk.server.error_log import ErrorLog

if TYPE_CHECKING:
    from kong_pdk.server.bridge import Bridge
    from kong_pdk.server.engines import Engine
    from kong_pdk.server.instances import Instance

_SHORTEST_PAUSE = 0.02

LONGEST_PAUSE = 1.0
"""Seconds between two looks at the events under way."""

FIRST_PAUSE = 5.0
"""Seconds until a handler that goes on is interrupted once more; then twice as many, and so on."""

_GOES_ON_SECONDS = 1.0
"""A handler that does not end counts as stuck when it has gone on for so long after its first interruption."""

HELD_SECONDS = 3.0
"""A handler that goes on, and holds the thread of a loop for so long, costs its worker."""

MOST_STUCK = 32
"""So many handlers that do not end hold too many threads: the worker is replaced. Where few run at once, it is half of
those, since the others have no room."""


class UnderWay(ABC):
    """What Kong waits for."""

    __slots__ = ()

    if TYPE_CHECKING:
        timeout: float
        """How long it may take, in seconds; infinite for no limit."""

        due: float
        """When it has taken too long, by ``time.monotonic``."""

    @property
    def waits_for(self) -> object:
        """What it waits for that Kong does: another object each time. None where it does not."""
        return None

    @abstractmethod
    def describe(self) -> str:
        """Name the plugin and what runs, for the log."""

    @abstractmethod
    def claim(self) -> bool:
        """Take the answer away from what runs; False where it has ended, or cannot be ended at this moment."""

    @abstractmethod
    def give_up(self) -> None:
        """Answer Kong in the place of what runs. Called on the loop, once it is no longer under way."""


class EventUnderWay(UnderWay):
    """An event whose handler runs, or will run."""

    __slots__ = ()

    if TYPE_CHECKING:
        phase: str
        instance: Instance
        engine: Engine
        bridge: Bridge | None
        """The calls of the handler; None while it does not run."""

        is_queued: bool
        """Whether it has waited for room, which does not count as its time."""

    def queued(self) -> None:
        """Note that it waits for room. That is limited by the engine."""
        self.is_queued = True  # type: ignore[misc]
        self.due = math.inf  # type: ignore[misc]

    def begin(self) -> None:
        """Note that its handler begins, after it has waited for room."""
        self.due = time.monotonic() + self.timeout  # type: ignore[misc]

    def describe(self) -> str:
        """See :class:`UnderWay`."""
        return f"{self.instance.plugin.name}: {self.phase}"

    def claim(self) -> bool:
        """See :class:`UnderWay`."""
        bridge = self.bridge
        return bridge is not None and bridge.expire()


class CallUnderWay(UnderWay):
    """A call that is no event, or not yet one."""

    __slots__ = ("_claims", "is_done")

    def __init__(self) -> None:
        self._claims = [True]
        self.is_done = False
        """Whether what runs has ended."""

    def claim(self) -> bool:
        """See :class:`UnderWay`. What runs claims the answer as well, before it gives it."""
        try:
            return self._claims.pop()
        except IndexError:
            return False


class _Stuck:
    """A handler that goes on although its event was ended."""

    def __init__(self, bridge: Bridge, engine: Engine) -> None:
        self.bridge = bridge
        self.engine = engine
        self.since = time.monotonic()
        self._pause = 0.0
        self._next = 0.0

    def look(self, now: float) -> None:
        """Interrupt it, and again after a while: what it does to end must not be interrupted each time."""
        if now >= self._next:
            self._pause = self._pause * 2 or FIRST_PAUSE
            self._next = now + self._pause
            self.bridge.interrupt(self.engine)


class Deadlines:
    """Looks at what is under way at a server."""

    def __init__(self, timeouts: Iterable[float], errors: ErrorLog, running: int) -> None:
        """:param timeouts: those of the plugins, in seconds.

        :param running: how many handlers run at once.
        """
        self._errors = errors
        self._most = min(MOST_STUCK, (running + 1) // 2)
        self.pause = max(min(LONGEST_PAUSE, min(timeouts, default=math.inf) / 10), _SHORTEST_PAUSE)
        """The seconds between two looks."""
        self._looked_at = 0.0
        self._waits_for: dict[UnderWay, object] = {}
        self._stuck: list[_Stuck] = []
        self._late_calls: list[CallUnderWay] = []

    @property
    def stuck(self) -> int:
        """How many handlers go on although their events were ended."""
        return len(self._stuck) + len(self._late_calls)

    def count_stuck(self) -> int:
        """Forget what has ended meanwhile, and give :attr:`stuck`."""
        self._stuck = [stuck for stuck in self._stuck if not stuck.bridge.is_closed]
        self._late_calls = [late for late in self._late_calls if not late.is_done]
        return self.stuck

    @property
    def are_many(self) -> bool:
        """Whether so many go on that the worker is to be replaced."""
        latest = time.monotonic() - _GOES_ON_SECONDS
        return len(self._late_calls) >= MOST_STUCK or sum(each.since <= latest for each in self._stuck) >= self._most

    @property
    def is_hopeless(self) -> bool:
        """Whether one of them holds the thread of a loop, on which other events wait."""
        held = time.monotonic() - HELD_SECONDS
        return any(stuck.since <= held and stuck.engine.holds_loop(stuck.bridge) for stuck in self._stuck)

    def look(self, running: set[UnderWay]) -> None:
        """Look at all that is under way, and end what has taken too long.

        :param running: what is under way.
        """
        now = time.monotonic()
        passed, self._looked_at = now - self._looked_at, now
        waited, self._waits_for = self._waits_for, {}
        for call in list(running):
            waits_for = call.waits_for
            if waits_for is not None:
                self._waits_for[call] = waits_for
            if waits_for is not None and waited.get(call) is waits_for:
                call.due += passed  # type: ignore[misc]
            elif call.due <= now:
                self._end(call, running)
        self.count_stuck()
        for stuck in self._stuck:
            stuck.look(now)

    def _end(self, call: UnderWay, running: set[UnderWay]) -> None:
        bridge = call.bridge if isinstance(call, EventUnderWay) else None
        if not call.claim():
            if isinstance(call, EventUnderWay) and bridge is not None and bridge.ended:  # Kong has its answer
                running.discard(call)
                call.due = math.inf  # type: ignore[misc]
                self._stuck.append(_Stuck(bridge, call.engine))
            return
        running.discard(call)
        place = ""
        if isinstance(call, EventUnderWay) and bridge is not None:
            with contextlib.suppress(Exception):  # the handler goes on meanwhile
                frames = call.engine.frames_of(bridge)
                place = running_line(call.instance.plugin.file, frames) or (line_of(frames[0]) if frames else "")
            self._stuck.append(_Stuck(bridge, call.engine))
        elif isinstance(call, CallUnderWay):
            self._late_calls.append(call)
        log_expired(self._errors, call.describe(), call.timeout, place)
        call.give_up()


def log_expired(errors: ErrorLog, what: str, timeout: float, place: str) -> None:
    """Log that something has taken too long.

    :param timeout: in seconds.
    :param place: ``FILE:LINE`` of what runs; an empty text where it is unknown.
    """
    where = f" ({place})" if place else ""
    errors.report(f"{what} has taken longer than {timeout:g} s, its timeout: the event is ended{where}")


def raise_in_thread(thread: int, error: type[BaseException]) -> None:
    """Raise an exception in another thread, at its next step in Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))
