"""Counts the calls in progress, so that a server can wait for them before it ends."""

from __future__ import annotations

import threading
from types import TracebackType


class Activity:
    """Counts the calls in progress: ``with activity: ...`` around each."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until no call is in progress.

        :param seconds: how long to wait at most.
        :return: whether no call is in progress.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, seconds)
