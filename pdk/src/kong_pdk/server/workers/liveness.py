"""Whether workers are alive: the master pings them, and finds the one that holds an overdue event or says nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from kong_pdk.server.instances.instance_store import WorkerState
from kong_pdk.server.workers.worker_process import WorkerProcess
from kong_pdk.settings import START_SECONDS

ANSWER_SECONDS = 0.8
"""A worker that does not answer a ping within this time counts as hanging, for the health check, which waits for the
master's answer for one second."""

PING_SECONDS = 5.0
"""The master pings its workers so often, and looks whether one of their events is overdue."""

LATE_SECONDS = 1.0
"""A worker ends its events itself at their timeouts. One that has not by so much later, and does not answer a
ping for as long, is killed."""

HOPELESS_SECONDS = 5.0
"""A worker that has not ended an event by so much after its timeout is killed, also if it answers pings."""

SILENT_SECONDS = 50.0
"""A worker that does not answer a ping for so long is killed, whatever the timeouts are: Kong waits for 60 s."""

STOPPED_SECONDS = 2.0
"""A master that wakes up so late was stopped itself, as in a container that was paused."""


class Liveness:
    """Looks at the workers of a master."""

    def __init__(
        self,
        start_seconds: float,
        ping: Callable[[WorkerProcess], object],
        kill: Callable[[WorkerProcess, str], object],
    ) -> None:
        """:param start_seconds: how long a worker may take until it is ready; infinite for no limit.

        :param ping: sends a ping to a worker.
        :param kill: kills a worker; gets the reason, in words that follow its name.
        """
        self._start_seconds = start_seconds
        self._ping = ping
        self._kill = kill
        self.due = 0.0
        """When :meth:`look` is due, by ``time.monotonic``."""

    def look(self, workers: Iterable[WorkerProcess]) -> None:
        """Ping the workers, and kill one that holds an overdue event, is silent, or does not become ready."""
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + PING_SECONDS
        for worker in workers:
            if worker.ready and not worker.is_killed:
                self._look_at(worker, now)
            elif not worker.is_killed:
                self._look_at_start(worker, now)

    def _look_at(self, worker: WorkerProcess, now: float) -> None:
        shortest, longest = worker.timeouts
        due = worker.earliest_due()
        overdue_at = due + LATE_SECONDS
        silent_for = 0.0 if worker.pinged_at is None else now - worker.pinged_at
        limit = min(max(longest, PING_SECONDS), SILENT_SECONDS)
        if silent_for >= limit:
            self._kill(worker, f"does not answer its master for {silent_for:.0f} s")
            return
        if overdue_at <= now and silent_for >= LATE_SECONDS:
            self._kill(worker, "has taken longer than the timeout for an event, and does not answer its master")
            return
        if due + HOPELESS_SECONDS <= now:
            self._kill(worker, "has taken far longer than the timeout for an event")
            return
        if worker.pinged_at is None:
            worker.pinged_at = now
            self._ping(worker)
        soon = overdue_at if overdue_at > now else now + LATE_SECONDS / 2
        self.due = min(self.due, soon, now + max(shortest, LATE_SECONDS / 2))

    def _look_at_start(self, worker: WorkerProcess, now: float) -> None:
        due = worker.started_at + self._start_seconds
        if now < due:
            self.due = min(self.due, due)
        else:
            seconds, name = self._start_seconds, START_SECONDS.name
            self._kill(worker, f"is not ready after {seconds:g} s ({name}): the import of its plugin does not end")

    def note_waking(self, late: float, workers: Iterable[WorkerProcess]) -> None:
        """Give the workers time to answer again where this process was stopped: they were stopped with it.

        :param late: by how much this process woke up too late, in seconds.
        """
        if late < STOPPED_SECONDS:
            return
        now = time.monotonic()
        for worker in workers:
            worker.pinged_at = None
            worker.started_at = max(worker.started_at, now)
        self.due = now + LATE_SECONDS


class PingRound:
    """A ping to all workers, and the workers that did not answer yet.

    The master pings at a request for the state of the workers (``plugin.GetWorkers``), not by itself.
    """

    def __init__(self, asking: WorkerProcess, request: int, workers: Collection[WorkerProcess]) -> None:
        """:param asking: the worker that got the request from outside.

        :param request: the id of its request to the master.
        """
        self.asking = asking
        self.request = request
        self.due = time.monotonic() + ANSWER_SECONDS
        self._workers = list(workers)
        self._silent = set(workers)

    def answered(self, worker: WorkerProcess) -> None:
        """Note that a worker answered."""
        self._silent.discard(worker)

    def ended(self, worker: WorkerProcess) -> None:
        """Expect no answer of a worker that has ended, and leave it out of the states: another one replaces it."""
        self._silent.discard(worker)
        self._workers = [each for each in self._workers if each is not worker]

    @property
    def is_over(self) -> bool:
        """Whether all workers have answered, or the time is up."""
        return not self._silent or time.monotonic() >= self.due

    def states(self) -> list[WorkerState]:
        """Give the state of each worker."""
        return [WorkerState(each.slot + 1, each.pid, each not in self._silent) for each in self._workers]
