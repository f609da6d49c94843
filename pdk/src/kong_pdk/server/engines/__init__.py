"""How an event runs and waits: on a greenlet of the loop, on a thread of a pool, or as a task of asyncio.

All else is one code path.
"""

from __future__ import annotations

import contextlib
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kong_pdk.server.connection import Waits

if TYPE_CHECKING:
    from kong_pdk.server.bridge import Bridge

FREE_SECONDS = 10.0
"""How long an event waits for its turn before it is refused."""

Job = Callable[[], None]
T = TypeVar("T")


class Parking(ABC):
    """A place where an event waits until it is woken up, from any thread."""

    @abstractmethod
    def wait(self) -> None:
        """Wait for :meth:`wake`, which may have been called already."""

    @abstractmethod
    def wake(self) -> None:
        """End the waiting."""


class CoroutineRunner(ABC):
    """Runs a coroutine on behalf of a job, and calls on behalf of the coroutine."""

    @abstractmethod
    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, and give its result. Raises what it raises."""

    @abstractmethod
    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that may wait for Kong, after the calls before it. Raises what it raises.

        A coroutine that is cancelled meanwhile goes on at once. The call is made all the same, and the next one waits
        for its end.
        """

    @abstractmethod
    def frames(self) -> list[FrameType]:
        """See :meth:`Engine.frames_of`."""

    @abstractmethod
    def interrupt(self) -> None:
        """See :meth:`Engine.interrupt`."""

    @property
    @abstractmethod
    def holds_loop(self) -> bool:
        """See :meth:`Engine.holds_loop`."""


def do_nothing() -> None:
    """Stand for a job where nothing is to be done."""


class Limits(NamedTuple):
    """How much an engine takes."""

    running: int = 1024
    """How many jobs run at once; others wait."""

    waiting: int = 1024
    """How many jobs wait; others are refused."""


DEFAULT_LIMITS = Limits()


class _Waiting(NamedTuple):
    job: Job
    refuse: Job
    queued: Job
    deadline: float


class Engine(ABC):
    """Runs jobs, each of which may wait for connections without holding up the others."""

    waits: Waits
    """How a job waits for a connection."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._waiting: deque[_Waiting] = deque()

    @abstractmethod
    def parking(self) -> Parking:
        """Make a place where the job that calls this can wait."""

    def coroutine_runner(self) -> CoroutineRunner | None:
        """Give what runs a coroutine for the job that calls this; None where the engine runs none."""
        return None

    @abstractmethod
    def where(self) -> Any:
        """Give what :meth:`interrupt` needs to find the job that calls this."""

    @abstractmethod
    def frames_of(self, bridge: Bridge) -> list[FrameType]:
        """List what a handler executes at this moment, the innermost frame first."""

    @abstractmethod
    def interrupt(self, bridge: Bridge) -> None:
        """Raise ``EventExpired`` in a handler that runs, as far as Python allows. Any thread may call this."""

    def holds_loop(self, bridge: Bridge) -> bool:
        """Whether a handler holds a thread on which other events wait."""
        return False

    @abstractmethod
    def _start(self, job: Job) -> bool:
        """Start a job, which raises nothing; False where there is no room for it."""

    def run(self, job: Job, refuse: Job, queued: Job = do_nothing) -> None:
        """Run a job now, or when there is room for it.

        :param job: raises nothing.
        :param refuse: called in place of the job if too many wait, there is no room for ``FREE_SECONDS``, or the
            server stops.
        :param queued: called before the job waits for room.
        """
        if not self._waiting and self._start(job):
            return
        if len(self._waiting) >= self._limits.waiting:
            self._refuse(refuse)
        else:
            queued()
            self._waiting.append(_Waiting(job, refuse, queued, time.monotonic() + FREE_SECONDS))

    def next_job(self) -> Job | None:
        """Take the job that has waited longest; None where none waits."""
        if not self._waiting:
            return None
        try:
            return self._waiting.popleft().job
        except IndexError:  # another thread has taken it
            return None

    def give_waiting(self, other: Engine) -> None:
        """Let another engine run the jobs that wait here."""
        with contextlib.suppress(IndexError):
            while True:
                waiting = self._waiting.popleft()
                other.run(waiting.job, waiting.refuse, waiting.queued)

    @property
    def is_full(self) -> bool:
        """Whether jobs wait for room."""
        return bool(self._waiting)

    def look_after(self) -> None:
        """Start jobs that wait, where there is room again, and refuse those that have waited too long."""
        now = time.monotonic()
        while self._waiting:
            try:
                first = self._waiting.popleft()
            except IndexError:
                return
            if self._start(first.job):
                continue
            if first.deadline > now:
                self._waiting.appendleft(first)
                return
            self._refuse(first.refuse)

    def refuse_waiting(self) -> None:
        """Refuse all jobs that wait."""
        with contextlib.suppress(IndexError):
            while True:
                self._refuse(self._waiting.popleft().refuse)

    def _refuse(self, refuse: Job) -> None:
        """Call what a job has for the case that there is no room, where it may wait for a moment."""
        refuse()


def frames_of_thread(thread: int) -> list[FrameType]:
    """List what a thread executes, the innermost frame first."""
    return outwards(sys._current_frames().get(thread))


def outwards(frame: FrameType | None) -> list[FrameType]:
    """List a frame and those that have led to it."""
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames
