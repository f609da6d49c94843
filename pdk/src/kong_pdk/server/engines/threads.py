"""The engine ``threads``: each event runs on a thread of a pool, and waits by blocking it."""

from __future__ import annotations

import contextlib
import logging
import threading
from threading import get_ident
from types import FrameType

from kong_pdk.exception_text import describe
from kong_pdk.logs import report
from kong_pdk.server.bridge import Bridge, EventExpired
from kong_pdk.server.connection import BLOCKING
from kong_pdk.server.deadlines import raise_in_thread
from kong_pdk.server.engines import DEFAULT_LIMITS, Engine, Job, Limits, Parking, frames_of_thread

_log = logging.getLogger(__name__)
_IDLE_SECONDS = 60.0


class ThreadParking(Parking):
    """Waits on a lock."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self) -> None:
        """See :class:`Parking`."""
        self._lock.acquire()

    def wake(self) -> None:
        """See :class:`Parking`."""
        with contextlib.suppress(RuntimeError):  # woken up already
            self._lock.release()


class _Worker:
    """A thread of the pool, and the job that it is given."""

    __slots__ = ("job", "wakes")

    def __init__(self, job: Job) -> None:
        self.job: Job | None = job
        self.wakes = threading.Lock()
        self.wakes.acquire()


class ThreadPool(Engine):
    """Threads, as many as events run at once. The thread that became idle last gets the next job: it is warm."""

    waits = BLOCKING

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(limits)
        self._idle: list[_Worker] = []
        self._count = 0
        self._counting = threading.Lock()
        self._is_short = False

    def parking(self) -> Parking:
        """See :class:`Engine`."""
        return ThreadParking()

    def where(self) -> int:
        """See :class:`Engine`."""
        return get_ident()

    def frames_of(self, bridge: Bridge) -> list[FrameType]:
        """See :class:`Engine`."""
        return frames_of_thread(bridge.where)

    def interrupt(self, bridge: Bridge) -> None:
        """See :class:`Engine`."""
        raise_in_thread(bridge.where, EventExpired)

    def _start(self, job: Job) -> bool:
        try:
            worker = self._idle.pop()
        except IndexError:
            return self._start_thread(job)
        worker.job = job
        with contextlib.suppress(RuntimeError):  # it has seen an earlier job before it waited
            worker.wakes.release()
        return True

    def _start_thread(self, job: Job) -> bool:
        with self._counting:
            if self._count >= self._limits.running:
                return False
            self._count += 1
        worker = _Worker(job)
        try:
            threading.Thread(target=self._work, args=(worker,), name="handler", daemon=True).start()
        except RuntimeError as error:
            with self._counting:
                self._count -= 1
            if not self._is_short:
                _log.error("events wait for a thread: %s", error)
            self._is_short = True
            return False
        self._is_short = False
        return True

    def _work(self, worker: _Worker) -> None:
        while worker.job is not None:
            job, worker.job = worker.job, None  # else the worker holds the event and the instance
            try:
                job()
            except BaseException as error:  # noqa: BLE001  # the end of an event was interrupted; the thread serves others
                report(_log, logging.ERROR, "the end of an event was interrupted: %s", describe(error))
            del job
            worker.job = self.next_job()
            if worker.job is None:
                self._wait_for_job(worker)
        with self._counting:
            self._count -= 1

    def _wait_for_job(self, worker: _Worker) -> None:
        """Wait until the worker has a job, or has had none for a minute."""
        self._idle.append(worker)
        while worker.job is None:
            try:
                if not worker.wakes.acquire(timeout=_IDLE_SECONDS):
                    self._idle.remove(worker)
                    return
            except ValueError:  # noqa: PERF203  # it gets a job at this moment
                continue
            except BaseException as error:  # noqa: BLE001  # of a timer that a handler left running, for example
                report(_log, logging.DEBUG, "an exception interrupted an idle handler thread: %s", describe(error))
