"""The engines: threads, or the greenlets of gevent that take the place of threads in a whole process."""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

from kong_pdk.mode import GEVENT

_IS_TASK_OF_THREAD = sys.version_info >= (3, 14)

_Trace = Callable[[str, tuple[Any, Any]], object]


def load_shared(engine: str) -> None:
    """Import in the master what its workers share.

    For gevent that is less: what keeps a lock or a queue of Python's own is imported after :func:`start`.
    """
    import kong_pdk.wire.protobuf_codec

    if engine != GEVENT:
        import kong_pdk.server.server  # noqa: F401


def start(engine: str) -> None:
    """Switch this process, a worker that has just been forked, to an engine."""
    if engine == GEVENT:
        from gevent import monkey

        monkey.patch_all()
        separate()


def separate() -> None:
    """Give each greenlet of this thread an event loop of its own, before asyncio is imported."""
    from greenlet import settrace  # type: ignore[import-untyped, unused-ignore]

    # asyncio would watch its subprocesses by descriptors of them, but gevent has reaped those that ended soon. Without
    # this function it waits for each in a thread.
    with contextlib.suppress(AttributeError):
        del os.pidfd_open

    aside: weakref.WeakKeyDictionary[Any, tuple[Any, Any, Any]] = weakref.WeakKeyDictionary()
    modules = sys.modules
    before: _Trace | None = None

    def switched(event: str, greenlets: tuple[Any, Any]) -> None:
        if before is not None:
            before(event, greenlets)
        asyncio: Any = modules.get("_asyncio")
        if asyncio is None:
            return
        loop = asyncio._get_running_loop()
        origin, target = greenlets
        restored = aside.pop(target, None)
        if loop is not None:
            aside[origin] = (loop, sys.get_asyncgen_hooks(), _swap_task(asyncio, loop, None))
        elif restored is None:
            return
        loop, hooks, task = restored or (None, (None, None), None)
        asyncio._set_running_loop(loop)
        sys.set_asyncgen_hooks(*hooks)
        if task is not None:
            _swap_task(asyncio, loop, task)

    before = settrace(switched)


def _swap_task(asyncio: Any, loop: Any, task: Any) -> Any:
    """Set the task that runs where it is kept with the thread, and not with the loop."""
    return asyncio._swap_current_task(loop, task) if _IS_TASK_OF_THREAD else None
