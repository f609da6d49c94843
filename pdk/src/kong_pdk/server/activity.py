"""What a server is in the middle of, so that it can end between two answers."""

from __future__ import annotations

import threading
from types import TracebackType


class Activity:
    """Counts the calls under way: ``with activity: ...`` around each."""

    def __init__(self) -> None:
        """Start idle."""
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        """A call begins."""
        with self._changed:
            self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A call has ended."""
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until no call is under way, and say whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, seconds)
