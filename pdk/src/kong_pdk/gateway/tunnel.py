"""Carries bytes between a client and a service after an upgrade to another protocol (WebSocket)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import httpcore

_CHUNK_BYTES = 65536


class ClientStream(Protocol):
    """The client's connection."""

    async def read(self, size: int) -> bytes:
        """Data of the client, at most ``size`` bytes; empty at its end."""
        ...

    async def write(self, data: bytes) -> None: ...


class Tunnel:
    """The two connections of one upgraded request.

    The tunnel ends when one side has closed and the other has received all its data and, as in nginx, after ``idle``
    seconds without a byte in either direction.
    """

    def __init__(self, client: ClientStream, service: httpcore.AsyncNetworkStream, idle: float) -> None:
        self._client = client
        self._service = service
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._last_activity = self._loop.time()
        self.timed_out = False

    async def run(self) -> str | None:
        """Carry bytes until the tunnel ends; return the error that ended it, None if one side closed."""
        tasks = [
            asyncio.create_task(self._pump(self._client.read, self._service.write)),
            asyncio.create_task(self._pump(self._service.read, self._client.write)),
            asyncio.create_task(self._wait_for_idle_timeout()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if tasks[2] in done:
            self.timed_out = True
            return f"connection timed out: nothing was sent for {self._idle:g} s"
        error = next((task.exception() for task in done if task.exception() is not None), None)
        return None if error is None else str(error) or type(error).__name__

    async def _pump(self, read: Callable[[int], Awaitable[bytes]], write: Callable[[bytes], Awaitable[None]]) -> None:
        while data := await read(_CHUNK_BYTES):
            self._last_activity = self._loop.time()
            await write(data)
            self._last_activity = self._loop.time()

    async def _wait_for_idle_timeout(self) -> None:
        while (remaining := self._last_activity + self._idle - self._loop.time()) > 0:
            await asyncio.sleep(remaining)
