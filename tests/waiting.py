"""Waiting for a condition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

DEADLINE = 30.0
"""Seconds that a test waits for what a busy machine may delay."""


def wait_for(condition: Callable[[], Value], what: Callable[[], object] = str, seconds: float = DEADLINE) -> Value:
    """Wait until a condition returns a true value, and return it; fail with the message that ``what`` returns."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.01)
    return value


async def async_wait_for(condition: Callable[[], object]) -> None:
    """Wait until a condition returns a true value, while the event loop goes on."""

    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(poll(), DEADLINE)
