"""The engine of ``async def`` handlers: a task for each event, on one asyncio event loop of the worker.

An event also has a greenlet. The greenlet starts the task, makes the PDK calls of the task, and answers Kong, all in
the same code as on the other engines: where that code waits for Kong, other tasks run.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

from greenlet import getcurrent  # type: ignore[import-untyped, unused-ignore]

from kong_pdk.errors import PDKError
from kong_pdk.server.bridge import AsyncBridge, Bridge, EventExpired
from kong_pdk.server.deadlines import raise_in_thread
from kong_pdk.server.engines import CoroutineRunner, frames_of_thread
from kong_pdk.server.engines.greenlets import Greenlets
from kong_pdk.server.loop import WatchingLoop, allocate_lock, get_ident, start_new_thread

_log = logging.getLogger(__name__)
_CANCEL_SECONDS = 0.5
_END_SECONDS = 1.0

T = TypeVar("T")


class AsyncioLoop(WatchingLoop):
    """An asyncio event loop on a thread of its own.

    It watches one descriptor for all connections: that of an epoll object. So a connection stays watched from event to
    event, while asyncio's ``add_reader`` would have to be called for each wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asyncio: asyncio.AbstractEventLoop
        self._stopped = False
        self._failure: Exception | None = None
        self._begun, self._ended = allocate_lock(), allocate_lock()

    def start(self) -> None:
        """See :class:`~kong_pdk.server.loop.Loop`."""
        # A thread of the system, also where gevent has put greenlets in the place of threads.
        self._begun.acquire()
        self._ended.acquire()
        start_new_thread(self._run, ())
        self._begun.acquire()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """See :class:`~kong_pdk.server.loop.Loop`: cancels the tasks that are left, and waits for their end."""
        if self._stopped or not self._begun.locked():  # it was never started
            return
        self._stopped = True
        self.call(self.asyncio.stop)
        self._ended.acquire(timeout=_END_SECONDS)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, and wait for its result on another thread. Raises what the coroutine raises."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.asyncio).result()

    def cancel(self) -> None:
        """Cancel all tasks, so that their ``finally`` blocks run. Any thread may call this."""
        self.call(self._cancel)

    def _cancel(self) -> None:
        for task in asyncio.all_tasks(self.asyncio):
            task.cancel()

    def _run(self) -> None:
        self.hub = getcurrent()
        self.thread = get_ident()
        try:
            # Here: under gevent, its selector belongs to the thread that makes it.
            self.asyncio = asyncio.new_event_loop()
            asyncio.set_event_loop(self.asyncio)
            self.asyncio.add_reader(self._epoll.fileno(), self._serve)
        except Exception as error:  # noqa: BLE001  # no more files, for example: the thread that waits raises it
            self._failure, self._stopped = error, True
            return
        finally:
            self._begun.release()
        while not self._stopped:
            try:
                self.asyncio.run_forever()
            except BaseException:  # noqa: BLE001, PERF203  # of a task of the author's: asyncio lets SystemExit through
                _log.exception("an exception interrupted the asyncio event loop")
        try:
            self._end()
        except Exception:  # noqa: BLE001  # of a task or an asynchronous generator of the author's
            _log.exception("the asyncio event loop ended by an exception")
        finally:
            self._epoll.close()
            self.asyncio.close()
            self._ended.release()

    def _end(self) -> None:
        self._cancel()
        if tasks := asyncio.all_tasks(self.asyncio):
            self.asyncio.run_until_complete(asyncio.wait(tasks, timeout=_CANCEL_SECONDS))
        for ending in (self.asyncio.shutdown_asyncgens(), self.asyncio.shutdown_default_executor()):
            self.asyncio.run_until_complete(asyncio.wait_for(ending, _CANCEL_SECONDS))

    def call(self, function: Callable[[], object]) -> None:
        """See :class:`~kong_pdk.server.loop.Loop`."""
        with contextlib.suppress(RuntimeError):  # it is closed
            self.asyncio.call_soon_threadsafe(self._safely, function)

    def _call_later(self, seconds: float, function: Callable[[], object]) -> None:
        self.asyncio.call_later(seconds, self._safely, function)


class Tasks(Greenlets):
    """Greenlets of an asyncio loop, each of which may run a coroutine as a task."""

    _loop: AsyncioLoop

    def coroutine_runner(self) -> CoroutineRunner:
        """See :class:`~kong_pdk.server.engines.Engine`."""
        return TaskRunner(self._loop)

    def frames_of(self, bridge: Bridge) -> list[FrameType]:
        """See :class:`~kong_pdk.server.engines.Engine`."""
        return bridge.runner.frames() if isinstance(bridge, AsyncBridge) else []

    def holds_loop(self, bridge: Bridge) -> bool:
        """See :class:`~kong_pdk.server.engines.Engine`."""
        return isinstance(bridge, AsyncBridge) and bridge.runner.holds_loop

    def interrupt(self, bridge: Bridge) -> None:
        """See :class:`~kong_pdk.server.engines.Engine`."""
        if isinstance(bridge, AsyncBridge):
            bridge.runner.interrupt()


class TaskRunner(CoroutineRunner):
    """Runs a coroutine as a task, and its calls on the greenlet of the job."""

    def __init__(self, loop: AsyncioLoop) -> None:
        self._loop = loop.asyncio
        self._hub = loop.hub
        self._thread = loop.thread
        self._greenlet: Any = None
        self._task: asyncio.Task[Any] | None = None
        self._is_parked = False
        self._turn = asyncio.Lock()
        self._order: tuple[Callable[..., Any], tuple[Any, ...], asyncio.Future[Any]] | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """See :class:`~kong_pdk.server.engines.CoroutineRunner`."""
        self._greenlet = getcurrent()
        task = self._task = self._loop.create_task(_guarded(coroutine))
        task.add_done_callback(self._wake)
        while True:
            if self._order is not None:
                self._carry_out()
            elif task.done():
                break
            else:
                self._is_parked = True
                try:
                    self._hub.switch()
                finally:
                    self._is_parked = False
        self._greenlet = self._task = None
        try:
            value, error = task.result()
        finally:
            del task  # its exception leads to this frame, as the next one does
        if error is not None:
            try:
                raise error
            finally:
                del error
        result: T = value
        return result

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """See :class:`~kong_pdk.server.engines.CoroutineRunner`."""
        if asyncio.get_running_loop() is not self._loop:
            raise PDKError(
                "a PDK call of an async handler was awaited on another event loop; use "
                "asyncio.run_coroutine_threadsafe with the loop of the handler"
            )
        await self._turn.acquire()
        if self._greenlet is None:  # the event is over
            self._turn.release()
            return function(*args)
        future: asyncio.Future[T] = self._loop.create_future()
        self._order = function, args, future
        self._wake()
        try:
            return await future
        finally:
            del future  # see run

    def frames(self) -> list[FrameType]:
        """See :class:`~kong_pdk.server.engines.CoroutineRunner`."""
        if self._task is None:
            return []
        if self.holds_loop:
            return frames_of_thread(self._thread)
        found: list[FrameType] = []
        waits: object = self._task.get_coro()
        while inspect.iscoroutine(waits):
            if waits.cr_frame is not None:
                found.append(waits.cr_frame)
            waits = waits.cr_await
        return found[::-1]

    @property
    def holds_loop(self) -> bool:
        """See :class:`~kong_pdk.server.engines.CoroutineRunner`."""
        return self._task is not None and asyncio.current_task(self._loop) is self._task

    def interrupt(self) -> None:
        """See :class:`~kong_pdk.server.engines.CoroutineRunner`."""
        task = self._task
        if task is None:
            return
        if self.holds_loop:
            raise_in_thread(self._thread, EventExpired)
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(task.cancel)

    def _wake(self, _: object = None) -> None:
        if self._is_parked:
            self._greenlet.switch()

    def _carry_out(self) -> None:
        assert self._order is not None
        (function, args, future), self._order = self._order, None
        try:
            result = function(*args)
        except BaseException as error:  # noqa: BLE001  # it belongs to the coroutine
            if not future.done():
                future.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)
        else:
            if not future.done():
                future.set_result(result)
        del future
        self._turn.release()


async def _guarded(coroutine: Coroutine[Any, Any, T]) -> tuple[Any, BaseException | None]:
    """Keep what asyncio would raise in the loop as well: a plugin must not end the server."""
    try:
        return await coroutine, None
    except (SystemExit, KeyboardInterrupt) as error:
        return None, error
