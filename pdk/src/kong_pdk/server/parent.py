"""Ending when Kong ends: a crashed Kong worker does not stop the servers that it started."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)
LOOK_SECONDS = 0.5


class Parent:
    """The process that started this one.

    It is not watched where this one was meant to be left alone: started by process 1, or with hang-ups ignored
    (``nohup``).
    """

    def __init__(self) -> None:
        """Take note of it."""
        self._pid = os.getppid()
        self.is_watched = self._pid > 1 and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN

    def has_ended(self) -> bool:
        """Whether it is watched and gone."""
        if not self.is_watched or os.getppid() == self._pid:
            return False
        _log.info("the process that started this server has ended")
        return True


def watch_parent(ended: Callable[[], None]) -> None:
    """Call ``ended``, on a thread of its own, once the process that started this one is gone."""
    parent = Parent()
    if not parent.is_watched:
        return

    def watch() -> None:
        stopped = threading.Event()
        while not stopped.wait(LOOK_SECONDS):
            if parent.has_ended():
                ended()
                return

    threading.Thread(target=watch, name="parent", daemon=True).start()
