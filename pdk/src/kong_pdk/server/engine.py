"""The engines: threads, or gevent, whose greenlets replace threads in the whole process."""

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
    """Import modules in the master that all its workers share.

    For gevent these are fewer: a module that makes locks or queues of Python is imported after :func:`start`.
    """
    import kong_pdk.wire.protobuf_codec

    if engine != GEVENT:
        import kong_pdk.server.server  # noqa: F401


def start(engine: str) -> None:
    """Switch this process, a worker that was just forked, to an engine."""
    if engine == GEVENT:
        from gevent import monkey

        monkey.patch_all()
        separate()


def separate() -> None:
    """Give each greenlet of this thread an asyncio event loop of its own. Called before asyncio is imported.

    asyncio keeps the running loop, and the hooks for asynchronous generators, with the thread of the operating system,
    and all greenlets of a worker run on one such thread. So the state of a greenlet is saved while others run.
    """
    from greenlet import settrace  # type: ignore[import-untyped, unused-ignore]

    # With this function asyncio watches a subprocess by a descriptor of it, but gevent may have reaped the process
    # already. Without it, asyncio waits for each subprocess in a thread.
    with contextlib.suppress(AttributeError):
        del os.pidfd_open

    saved: weakref.WeakKeyDictionary[Any, tuple[Any, Any, Any]] = weakref.WeakKeyDictionary()
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
        restored = saved.pop(target, None)
        if loop is not None:
            saved[origin] = (loop, sys.get_asyncgen_hooks(), _swap_task(asyncio, loop, None))
        elif restored is None:
            return
        loop, hooks, task = restored or (None, (None, None), None)
        asyncio._set_running_loop(loop)
        sys.set_asyncgen_hooks(*hooks)
        if task is not None:
            _swap_task(asyncio, loop, task)

    before = settrace(switched)


def _swap_task(asyncio: Any, loop: Any, task: Any) -> Any:
    """Set the current task, on Python versions that keep it by thread and not by loop."""
    return asyncio._swap_current_task(loop, task) if _IS_TASK_OF_THREAD else None
