"""The engine ``gevent``: greenlets replace threads in the whole process, and gevent's own loop runs them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

from kong_pdk.logs import log_error
from kong_pdk.server.engines.separate_asyncio import separate
from kong_pdk.server.loop import WatchingLoop, get_ident

_READ = 1  # of libev


class GeventLoop(WatchingLoop):
    """The loop of gevent's hub, which watches one descriptor for all connections: that of an epoll object."""

    def __init__(self) -> None:
        from gevent import get_hub

        super().__init__()
        self.hub = get_hub()
        self.thread = get_ident()
        self._watcher = self.hub.loop.io(self._epoll.fileno(), _READ)
        self._timers: set[Any] = set()

    def start(self) -> None:
        """See :class:`Loop`: gevent's loop runs already."""
        self._watcher.start(self._serve)

    def stop(self) -> None:
        """See :class:`Loop`."""
        self._watcher.stop()
        self._watcher.close()
        self._epoll.close()
        while self._timers:
            self._timers.pop().close()

    def call(self, function: Callable[[], object]) -> None:
        """See :class:`Loop`."""
        self.hub.loop.run_callback_threadsafe(self._safely, function)

    def _call_later(self, seconds: float, function: Callable[[], object]) -> None:
        timer = self.hub.loop.timer(seconds)
        self._timers.add(timer)
        timer.start(self._ring, timer, function)

    def _ring(self, timer: Any, function: Callable[[], object]) -> None:
        self._timers.discard(timer)
        timer.close()
        self._safely(function)


def _log_error_of_greenlet(
    hub: object, context: object, kind: type[BaseException], error: BaseException | None, traceback: object
) -> None:
    """Replace ``Hub.print_exception``, which writes a traceback without the log's form, and with secrets in it."""
    if error is not None:
        log_error("a greenlet of the plugin", error)


def patch() -> None:
    """Let gevent replace what blocks in this process, a worker that was just forked."""
    from gevent import monkey
    from gevent.hub import Hub

    monkey.patch_all()
    Hub.print_exception = _log_error_of_greenlet
    # With this function asyncio watches a subprocess by a descriptor of it, but gevent may have reaped the process
    # already. Without it, asyncio waits for each subprocess in a thread.
    with contextlib.suppress(AttributeError):
        del os.pidfd_open
    separate()
