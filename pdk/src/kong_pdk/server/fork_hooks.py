"""Processes that a plugin forks: what Kong and the master share with the server is nothing of theirs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


@contextlib.contextmanager
def blocked_signals() -> Iterator[None]:
    """Let signals wait, around a fork: in the child until it has no handler of its parent's any more."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, signal.SIGCHLD))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def detach_children(open_sockets: Callable[[], Iterable[socket.socket]], handlers: Mapping[signal.Signals, Any]) -> None:
    """Make processes that a plugin forks their own: what stops one of them must not stop the server.

    :param open_sockets: gives the sockets whose other ends must see that the server closes them, or ends.
    :param handlers: what a child does at a signal. Both are asked at each fork.
    """
    forking = threading.local()

    def block_signals() -> None:  # a signal is to wait until the child has its own handlers
        forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

    def unblock_signals() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, forking.mask)

    def in_child() -> None:
        try:
            signal.set_wakeup_fd(-1)
            for number, handler in handlers.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            _release_descriptors(open_sockets())
            _forget_greenlets()
        finally:
            unblock_signals()

    os.register_at_fork(before=block_signals, after_in_parent=unblock_signals, after_in_child=in_child)


def _release_descriptors(sockets: Iterable[socket.socket]) -> None:
    """Put an empty file in the place of each: the objects are still there, and close their descriptors one day."""
    null = os.open(os.devnull, os.O_RDWR)
    for each in list(sockets):
        if each.fileno() >= 0:
            os.dup2(null, each.fileno(), inheritable=False)
    os.close(null)


def _forget_greenlets() -> None:
    """Let no greenlet of the server go on in the child when the one that forked waits for something.

    They wait in the hub that they know, which does not run again; the child has another one.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        from gevent import hub

        hub.set_hub(hub.Hub(default=False))
