"""What the log is told of a collector that does not take entries."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter

_log = logging.getLogger("py-access-log")
_SILENT_SECONDS = 60.0


class Trouble:
    """Says what goes wrong: at once, then once a minute, and when it is over."""

    def __init__(self, collector: str) -> None:
        """:param collector: its name in the log, without secrets."""
        self._collector = collector
        self._lock = threading.Lock()
        self._failing = False
        self._failure_told_at = self._loss_told_at = -_SILENT_SECONDS
        self._lost: Counter[str] = Counter()

    def fails(self, reason: str, waiting: int) -> None:
        """A batch could not be sent, and will be tried again.

        :param waiting: the number of entries that wait.
        """
        now = time.monotonic()
        with self._lock:
            told = self._failing and now - self._failure_told_at < _SILENT_SECONDS
            self._failing = True
            if told:
                return
            self._failure_told_at = now
        _log.warning("%s takes no entries (%s); trying again, %d wait", self._collector, reason, waiting)

    def lost(self, count: int, why: str) -> None:
        """Entries will never be sent."""
        if count == 0:
            return
        with self._lock:
            self._lost[why] += count
            if time.monotonic() - self._loss_told_at < _SILENT_SECONDS:
                return
        self.tell()

    def over(self) -> None:
        """A batch was taken."""
        if not self._failing:
            return
        with self._lock:
            self._failing = False
        _log.info("%s takes entries again", self._collector)
        self.tell()

    def tell(self) -> None:
        """Say what was lost since this was last said."""
        with self._lock:
            lost, self._lost = self._lost, Counter()
            if lost:
                self._loss_told_at = time.monotonic()
        for why, count in lost.items():
            _log.error("%d entries for %s are lost: %s", count, self._collector, why)
