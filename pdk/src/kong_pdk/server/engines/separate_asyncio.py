"""Lets handlers on greenlets run asyncio's event loops side by side.

asyncio keeps the running loop, and the hooks for asynchronous generators, with the thread of the operating system, and
all greenlets of a loop run on one such thread.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

_IS_TASK_OF_THREAD = sys.version_info >= (3, 14)

_Trace = Callable[[str, tuple[Any, Any]], object]


def separate() -> None:
    """Give each greenlet of this thread an asyncio event loop of its own.

    The state of a greenlet is saved while others run.
    """
    from greenlet import settrace  # type: ignore[import-untyped, unused-ignore]

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
