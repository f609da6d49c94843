"""Carries bytes between a client and a service, both ways at once, as nginx's stream proxy does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from kong_pdk.gateway.stream.session import Session

_CHUNK = 65536
# What is passed on counts as a sign of life in steps of this size, so that a slow reader is not taken for a dead one.
_STEP = 16384


class Relay:
    """One session's two connections, non-blocking.

    No more is read from one side than the other takes. After ``idle`` seconds without a byte either way the session
    is over. It is over, too, when one side has ended and the other has all that came from it; with ``half_close``
    only when both have.
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
        self._last = self._loop.time()

    async def run(self) -> str | None:
        """Carry bytes until the session is over; what ended it if it was not one of the two sides' own end."""
        pumps = {
            asyncio.create_task(self._pump(self._client, self._upstream, self._note_received, self._note_passed_on)),
            asyncio.create_task(self._pump(self._upstream, self._client, self._note_answered, self._note_sent)),
        }
        silence = asyncio.create_task(self._silence())
        try:
            return await self._until_over(pumps, silence)
        finally:
            for task in (*pumps, silence):
                task.cancel()
            await asyncio.gather(*pumps, silence, return_exceptions=True)

    async def _until_over(self, pumps: set[asyncio.Task[None]], silence: asyncio.Task[None]) -> str | None:
        pending = set(pumps)
        while pending:
            done, _ = await asyncio.wait({*pending, silence}, return_when=asyncio.FIRST_COMPLETED)
            for task in done & pending:
                error = task.exception()
                if error is not None:
                    return getattr(error, "strerror", None) or str(error) or type(error).__name__
            if silence in done:
                return f"connection timed out: nothing was sent for {self._idle:g} s"
            pending -= done
            if not self._half_close:
                break
        return None

    async def _pump(
        self,
        source: socket.socket,
        target: socket.socket,
        taken: Callable[[int], None],
        given: Callable[[int], None],
    ) -> None:
        buffer = bytearray(_CHUNK)
        view = memoryview(buffer)
        while size := await self._loop.sock_recv_into(source, buffer):
            self._last = self._loop.time()
            taken(size)
            for start in range(0, size, _STEP):
                step = view[start : min(start + _STEP, size)]
                await self._loop.sock_sendall(target, step)
                self._last = self._loop.time()
                given(len(step))
        if self._half_close:
            with contextlib.suppress(OSError):  # it may be gone already
                target.shutdown(socket.SHUT_WR)

    def _note_received(self, size: int) -> None:
        self._session.received += size

    def _note_passed_on(self, size: int) -> None:
        self._session.upstream_sent += size

    def _note_answered(self, size: int) -> None:
        self._session.upstream_received += size

    def _note_sent(self, size: int) -> None:
        self._session.sent += size

    async def _silence(self) -> None:
        while (left := self._last + self._idle - self._loop.time()) > 0:
            await asyncio.sleep(left)
