"""The engine ``gevent``: greenlets replace threads in the whole process, and gevent's own loop runs them."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Callable
from typing import Any

from kong_pdk.server.engines.separate_asyncio import separate
from kong_pdk.server.loop import Loop, get_ident

_READ, _WRITE = 1, 2  # of libev


class GeventLoop(Loop):
    """The loop of gevent's hub."""

    def __init__(self) -> None:
        from gevent import get_hub

        super().__init__()
        self.hub = get_hub()
        self.thread = get_ident()
        self._watchers: dict[int, Any] = {}
        self._timers: set[Any] = set()

    def start(self) -> None:
        """See :class:`Loop`: gevent's loop runs already."""

    def stop(self) -> None:
        """See :class:`Loop`."""
        for fd in list(self._watchers):
            self._unwatch(fd)
        while self._timers:
            self._timers.pop().close()

    def sockets(self) -> list[socket.socket]:
        """See :class:`Loop`."""
        return []

    def call(self, function: Callable[[], object]) -> None:
        """See :class:`Loop`."""
        self.hub.loop.run_callback(self._safely, function)

    def call_later(self, seconds: float, function: Callable[[], object]) -> None:
        """See :class:`Loop`."""
        timer = self.hub.loop.timer(seconds)
        self._timers.add(timer)
        timer.start(self._ring, timer, function)

    def _ring(self, timer: Any, function: Callable[[], object]) -> None:
        self._timers.discard(timer)
        timer.close()
        self._safely(function)

    def _watch(self, fd: int) -> None:
        self._watch_for(fd, select.POLLIN)

    def _watch_for(self, fd: int, events: int) -> None:
        self._unwatch(fd)
        watcher = self._watchers[fd] = self.hub.loop.io(fd, _READ if events == select.POLLIN else _READ | _WRITE)
        watcher.start(self._safely, self.ready, fd)

    def _unwatch(self, fd: int) -> None:
        watcher = self._watchers.pop(fd, None)
        if watcher is not None:
            watcher.stop()
            watcher.close()


def patch() -> None:
    """Let gevent replace what blocks in this process, a worker that was just forked."""
    from gevent import monkey

    monkey.patch_all()
    # With this function asyncio watches a subprocess by a descriptor of it, but gevent may have reaped the process
    # already. Without it, asyncio waits for each subprocess in a thread.
    with contextlib.suppress(AttributeError):
        del os.pidfd_open
    separate()
