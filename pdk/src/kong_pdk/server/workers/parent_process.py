"""The process that started a plugin server: when it ends, the server ends. A Kong that crashes stops no server."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)

PARENT_CHECK_SECONDS = 0.5


class ParentProcess:
    """The process that started this one.

    It is not watched where this process is meant to outlive it: where process 1 started it, or SIGHUP is ignored
    (``nohup``).
    """

    def __init__(self) -> None:
        self._pid = os.getppid()
        self.is_watched = self._pid > 1 and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN

    def has_ended(self) -> bool:
        """Whether the parent is watched and has ended."""
        if not self.is_watched or os.getppid() == self._pid:
            return False
        _log.info("the process that started this server has ended")
        return True


def watch_parent(ended: Callable[[], None]) -> None:
    """Call ``ended``, on a thread of its own, once the parent has ended."""
    parent = ParentProcess()
    if not parent.is_watched:
        return

    def watch() -> None:
        while not parent.has_ended():
            time.sleep(PARENT_CHECK_SECONDS)
        ended()

    threading.Thread(target=watch, name="parent", daemon=True).start()
