"""The process that started a plugin server: when it ends, the server ends. A Kong that crashes stops no server."""

from __future__ import annotations

import ctypes
import logging
import os
import signal

_log = logging.getLogger(__name__)

PARENT_CHECK_SECONDS = 0.5


_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process, a fork, when its parent ends, whatever it does then.

    :param parent: the process that has forked it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


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
