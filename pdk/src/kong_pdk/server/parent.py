"""Ending when Kong ends: a crashed Kong worker does not stop the servers that it started."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)
_EVERY = 0.5  # seconds


def watch_parent(ended: Callable[[], None]) -> None:
    """Call ``ended`` once the process that started this one is gone.

    Not where it was meant to be left alone: started by process 1, or with hang-ups ignored (``nohup``).
    """
    parent = os.getppid()
    if parent <= 1 or signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return

    def watch() -> None:
        stopped = threading.Event()
        while not stopped.wait(_EVERY):
            if os.getppid() != parent:
                _log.info("the process that started this server has ended")
                ended()
                return

    threading.Thread(target=watch, name="parent", daemon=True).start()
