"""Logs what goes wrong in events: in full the first time, and then how often, so that it cannot fill a disk."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kong_pdk.logs import report

_log = logging.getLogger(__name__)

COUNTED_SECONDS = 60.0
"""How often an error that is repeated is logged as a number."""

FORGOTTEN_SECONDS = 3600.0
"""An error that has not come for so long is logged in full again."""

MOST_ERRORS = 1000
"""How many different errors are known; the oldest are forgotten."""


@dataclass
class _Known:
    seen_at: float
    counted_since: float
    count: int = 0


class ErrorLog:
    """The errors of a server. Safe to use from many threads."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()
        self.due = math.inf
        """When :meth:`count` has something to log, by ``time.monotonic``."""

    def report(self, line: str, in_full: Callable[[], str] | None = None) -> None:
        """Log an error, or count it where it is known. Raises nothing.

        :param line: names the error; the same for all that count as one.
        :param in_full: gives the text for the first time, where that is more than the line.
        """
        if self._is_first(line):
            report(_log, logging.ERROR, "%s", line if in_full is None else in_full())

    def _is_first(self, line: str) -> bool:
        now = time.monotonic()
        with self._lock:
            known = self._known.get(line)
            if known is None or now - known.seen_at > FORGOTTEN_SECONDS:
                self._known.pop(line, None)
                self._known[line] = _Known(now, now)
                if len(self._known) > MOST_ERRORS:
                    del self._known[next(iter(self._known))]
                return True
            known.seen_at = now
            if not known.count:
                known.counted_since = now
                self.due = min(self.due, now + COUNTED_SECONDS)
            known.count += 1
            return False

    def forget(self) -> None:
        """Forget all errors, so that each is logged in full when it comes again."""
        with self._lock:
            self._known.clear()

    def count(self, is_last: bool = False) -> None:
        """Log how often errors have come again, where that is due.

        :param is_last: whether the server ends, so that all of it is due.
        """
        now = time.monotonic()
        if now < self.due and not is_last:
            return
        lines = []
        with self._lock:
            self.due = math.inf
            for line, known in self._known.items():
                passed = now - known.counted_since
                if known.count and (is_last or passed >= COUNTED_SECONDS):
                    times = "once" if known.count == 1 else f"{known.count} times"
                    lines.append(f"{line}: {times} more in {max(passed, 1):.0f} s")
                    known.count = 0
                elif known.count:
                    self.due = min(self.due, known.counted_since + COUNTED_SECONDS)
        for line in lines:
            report(_log, logging.ERROR, "%s", line)
