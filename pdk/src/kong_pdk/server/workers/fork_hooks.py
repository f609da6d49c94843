"""Hooks for processes that a plugin forks: such a child keeps no socket and no signal handler of the server."""

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
    """Block signals around a fork, so that the child gets none before it has handlers of its own."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, signal.SIGCHLD))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def detach_children(
    open_sockets: Callable[[], Iterable[socket.socket]], handlers: Mapping[signal.Signals, Any]
) -> None:
    """Detach processes that a plugin forks from the server: a signal that stops a child must not stop the server.

    :param open_sockets: lists, at each fork, the sockets that a child must not keep open: Kong and the master must see
        when the server closes them.
    :param handlers: the signal handlers of a child; read at each fork.
    """
    forking = threading.local()

    def block_signals() -> None:
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
    """Replace each descriptor by ``/dev/null``: the socket objects still exist, and close their descriptors later."""
    null = os.open(os.devnull, os.O_RDWR)
    for each in list(sockets):
        if each.fileno() >= 0:
            os.dup2(null, each.fileno(), inheritable=False)
    os.close(null)


def _forget_greenlets() -> None:
    """Give the child a new gevent hub, so that the server's greenlets, which wait in the old one, never run there."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        from gevent import hub

        hub.set_hub(hub.Hub(default=False))
