"""A client's transport that puts what is written at one time into one packet."""

from __future__ import annotations

import asyncio
from typing import Any

# Above this many bytes nothing is gained by waiting for more.
_ENOUGH = 65536


class GatheringTransport(asyncio.Transport):
    """Writes in the next turn of the event loop: a response's head and the start of its body leave together.

    Each write of its own would be a system call here, and a wake-up of the client.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._gathered = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take data; it leaves soon."""
        if not self._gathered and data:
            self._loop.call_soon(self._flush)
        self._gathered += data
        if len(self._gathered) > _ENOUGH:
            self._flush()

    def close(self) -> None:
        """Close when all has been sent."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what has not been sent is lost."""
        self._gathered.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def _flush(self) -> None:
        if self._gathered:
            data, self._gathered = self._gathered, bytearray()
            self._transport.write(data)
