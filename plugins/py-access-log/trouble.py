"""The log messages about a collector that does not accept entries."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter

_log = logging.getLogger("py-access-log")
_SILENT_SECONDS = 60.0


class Trouble:
    """Logs a problem at once, then once a minute, and logs its end."""

    def __init__(self, collector: str) -> None:
        """:param collector: the collector's name in the log, without secrets."""
        self._collector = collector
        self._lock = threading.Lock()
        self._failing = False  # the log has a message about it
        self._failure_told_at = self._loss_told_at = -_SILENT_SECONDS
        self._lost: Counter[str] = Counter()

    def fails(self, reason: str, waiting: int) -> None:
        """Log that a batch could not be sent and will be sent again.

        :param waiting: the number of entries in the queue.
        """
        with self._lock:
            if not _is_due(self._failure_told_at):
                return
            self._failure_told_at = time.monotonic()
            self._failing = True
        _log.warning("%s takes no entries (%s); trying again, %d wait", self._collector, reason, waiting)

    def lost(self, count: int, why: str) -> None:
        """Count entries that will never be sent."""
        if count:
            with self._lock:
                self._lost[why] += count
            self.tell(_is_due(self._loss_told_at))

    def over(self) -> None:
        """Log that the collector accepts entries again."""
        with self._lock:
            was_failing, self._failing = self._failing, False
        if was_failing:
            _log.info("%s takes entries again", self._collector)
        self.tell(was_failing or _is_due(self._loss_told_at))

    def tell(self, due: bool = True) -> None:
        """Log the losses since the last message, if a message is due."""
        with self._lock:
            if not due or not self._lost:
                return
            lost, self._lost = self._lost, Counter()
            self._loss_told_at = time.monotonic()
        for why, count in lost.items():
            entries = "entry is" if count == 1 else "entries are"
            _log.error("%d %s lost that %s was to get: %s", count, entries, self._collector, why)


def _is_due(told_at: float) -> bool:
    return time.monotonic() - told_at >= _SILENT_SECONDS
