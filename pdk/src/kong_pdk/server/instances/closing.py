"""Calls ``close()`` of a plugin's object once, when its instance has ended and none of its handlers runs any more.

``close()`` is the author's code: it runs on a thread of its own, without any lock of the server, and its exceptions
are logged.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from kong_pdk.exception_text import log_text, traceback_line
from kong_pdk.logs import report
from kong_pdk.plugin import Plugin

_log = logging.getLogger(__name__)
_MOST_THREADS = 16


class HandlerLife:
    """An author's object, from its ``__init__`` to its ``close()``."""

    def __init__(self, plugin: Plugin, handler: Any, queue: ClosingQueue) -> None:
        """:param handler: the object.

        :param queue: calls ``close()`` where the object has that method.
        """
        self._plugin = plugin
        self._queue = queue
        self._close = queue.close_of(plugin, handler)
        # A list, whose append and pop need no lock: each event begins and ends here.
        self._runs: list[None] = []
        self._ended = False
        self._is_queued = False
        self._lock = threading.Lock()

    def successor(self, handler: Any) -> HandlerLife:
        """Make the life of another object of the same plugin."""
        return HandlerLife(self._plugin, handler, self._queue)

    def begin(self) -> bool:
        """Note that a handler starts; False where the object has ended."""
        self._runs.append(None)
        if self._ended:
            self.done()
            return False
        return True

    def done(self) -> None:
        """Note that a handler has returned."""
        self._runs.pop()
        if self._ended:
            self._queue_if_idle()

    def end(self) -> None:
        """End the object: ``close()`` is called now, or after its last handler."""
        with self._lock:
            if self._ended:
                return
            if self._close is not None:
                self._queue.expect()
            self._ended = True
        self._queue_if_idle()

    def _queue_if_idle(self) -> None:
        with self._lock:
            if self._runs or self._is_queued or self._close is None:
                return
            self._is_queued = True
        self._queue.add(self)

    def close(self) -> None:
        """Call the object's ``close()``."""
        if self._close is None:
            return
        try:
            result = self._close()
            if inspect.iscoroutine(result) and self._queue.run_coroutine is not None:
                self._queue.run_coroutine(result)
            elif inspect.iscoroutine(result) or inspect.isgenerator(result):
                result.close()
                text = (
                    "%s: close() is async although no phase is, or has a yield, so calling it runs nothing; write "
                    "def close(self) (%s)"
                )
                _log.error(text, self._plugin.name, _place(self._close, self._plugin))
        except BaseException as error:  # noqa: BLE001  # SystemExit too: a plugin must not end the server
            _, text = log_text(f"{self._plugin.name}: close", error, functools.partial(self._place_of, error))
            report(_log, logging.ERROR, "%s", text)

    def _place_of(self, error: BaseException) -> str:
        return traceback_line(self._plugin.file, error) or str(self._plugin.file)


class ClosingQueue:
    """Calls ``close()`` of objects that have ended, on up to 16 threads."""

    def __init__(self) -> None:
        self.run_coroutine: Callable[[Coroutine[Any, Any, Any]], object] | None = None
        """Runs an ``async def close``, and waits for its end; None where no loop runs for that."""
        self._waiting: deque[HandlerLife] = deque()
        self._threads = 0
        self._unclosed = 0
        self._changed = threading.Condition()
        self._warned: set[str] = set()

    def close_of(self, plugin: Plugin, handler: Any) -> Callable[[], Any] | None:
        """Give the object's ``close`` method; None where it has none, or something else of that name."""
        # Not by getattr alone: the author's __getattr__ may give a value for any name.
        static = inspect.getattr_static(handler, "close", None)
        if static is None or isinstance(static, property):
            return None
        try:
            close: Callable[[], Any] | None = getattr(handler, "close", None)
        except Exception:  # noqa: BLE001  # the author's descriptor may raise anything
            return None
        if not callable(close):
            return None
        try:
            inspect.signature(close).bind()
        except TypeError:
            self._warn_once(plugin, close)
            return None
        except ValueError:  # a function that is not written in Python has no signature
            pass
        return close

    def _warn_once(self, plugin: Plugin, close: Callable[..., Any]) -> None:
        if plugin.name not in self._warned:
            self._warned.add(plugin.name)
            text = (
                "%s: close() takes arguments, so it is not called when an instance ends; "
                "write def close(self), or give it another name (%s)"
            )
            _log.warning(text, plugin.name, _place(close, plugin))

    def expect(self) -> None:
        """Announce an object that is added later, after its last handler; :meth:`wait` counts it from now on."""
        with self._changed:
            self._unclosed += 1

    def add(self, life: HandlerLife) -> None:
        """Close an object, on another thread."""
        self._waiting.append(life)
        self._start_thread()

    def wait(self, seconds: float) -> int:
        """Wait until all objects that have ended are closed.

        :param seconds: how long to wait at most.
        :return: how many are not closed yet.
        """
        self._start_thread()
        with self._changed:
            self._changed.wait_for(lambda: not self._unclosed, seconds)
            return self._unclosed

    def _start_thread(self) -> None:
        with self._changed:
            if not self._waiting or self._threads >= _MOST_THREADS:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._run, name="close", daemon=True).start()
        except RuntimeError:  # no more threads can be started: the next object to close tries again
            with self._changed:
                self._threads -= 1

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._threads -= 1
                    return
                life = self._waiting.popleft()
            with contextlib.suppress(BaseException):  # a logging handler of the plugin may raise
                life.close()
            with self._changed:
                self._unclosed -= 1
                self._changed.notify_all()


def _place(close: Callable[..., Any], plugin: Plugin) -> str:
    code = getattr(close, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else str(plugin.file)
