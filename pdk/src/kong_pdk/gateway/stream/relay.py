"""Carries bytes between a client and a service in both directions, like nginx's stream proxy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from kong_pdk.gateway.stream.session import Session

_CHUNK_BYTES = 65536
# Sent bytes count as activity in steps of this size, so that a slow reader does not look idle.
_STEP_BYTES = 16384


class Relay:
    """The two non-blocking connections of one session.

    One side is read only as fast as the other side reads. The session ends after ``idle`` seconds without a byte in
    either direction, and when one side has closed and the other has received all its data; with ``half_close`` only
    when both sides have closed.
    """

    def __init__(
        self, session: Session, client: socket.socket, upstream: socket.socket, idle: float, half_close: bool
    ) -> None:
        self._session = session
        self._client = client
        self._upstream = upstream
        self._idle = idle
        self._half_close = half_close
        self._loop = asyncio.get_running_loop()
        self._last_activity = self._loop.time()

    async def run(self) -> str | None:
        """Carry bytes until the session ends; return the error that ended it, None if a side closed."""
        pumps = {
            asyncio.create_task(
                self._pump(self._client, self._upstream, self._count_received, self._count_upstream_sent)
            ),
            asyncio.create_task(
                self._pump(self._upstream, self._client, self._count_upstream_received, self._count_sent)
            ),
        }
        idle_timeout = asyncio.create_task(self._wait_for_idle_timeout())
        try:
            return await self._until_over(pumps, idle_timeout)
        finally:
            for task in (*pumps, idle_timeout):
                task.cancel()
            await asyncio.gather(*pumps, idle_timeout, return_exceptions=True)

    async def _until_over(self, pumps: set[asyncio.Task[None]], idle_timeout: asyncio.Task[None]) -> str | None:
        pending = set(pumps)
        while pending:
            done, _ = await asyncio.wait({*pending, idle_timeout}, return_when=asyncio.FIRST_COMPLETED)
            for task in done & pending:
                error = task.exception()
                if error is not None:
                    return getattr(error, "strerror", None) or str(error) or type(error).__name__
            if idle_timeout in done:
                return f"connection timed out: nothing was sent for {self._idle:g} s"
            pending -= done
            if not self._half_close:
                break
        return None

    async def _pump(
        self,
        source: socket.socket,
        target: socket.socket,
        on_read: Callable[[int], None],
        on_written: Callable[[int], None],
    ) -> None:
        buffer = bytearray(_CHUNK_BYTES)
        view = memoryview(buffer)
        while size := await self._loop.sock_recv_into(source, buffer):
            self._last_activity = self._loop.time()
            on_read(size)
            for start in range(0, size, _STEP_BYTES):
                step = view[start : min(start + _STEP_BYTES, size)]
                await self._loop.sock_sendall(target, step)
                self._last_activity = self._loop.time()
                on_written(len(step))
        if self._half_close:
            with contextlib.suppress(OSError):  # it may be closed already
                target.shutdown(socket.SHUT_WR)

    def _count_received(self, size: int) -> None:
        self._session.received += size

    def _count_upstream_sent(self, size: int) -> None:
        self._session.upstream_sent += size

    def _count_upstream_received(self, size: int) -> None:
        self._session.upstream_received += size

    def _count_sent(self, size: int) -> None:
        self._session.sent += size

    async def _wait_for_idle_timeout(self) -> None:
        while (remaining := self._last_activity + self._idle - self._loop.time()) > 0:
            await asyncio.sleep(remaining)
