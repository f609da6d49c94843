"""Which workers of a server are alive: their master pings them when it is asked, and not by itself."""

from __future__ import annotations

import time
from collections.abc import Collection

from kong_pdk.server.contents import WorkerState
from kong_pdk.server.worker_process import WorkerProcess

ANSWER_SECONDS = 3.0
"""After so long a worker that has not answered counts as hanging."""


class RollCall:
    """One question for all workers, and who has not answered yet."""

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
