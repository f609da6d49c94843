"""Keep-alive connections to one unix socket, taken and given back as nginx's cosockets are."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kong_pdk.gateway.servers.failures import Closed, Unreachable

IDLE_CONNECTIONS = 256
IDLE_SECONDS = 60.0
SOCKET_TIMEOUT = 60.0
_CHUNK = 64 * 1024


class Connection:
    """A stream to a plugin server. Every wait ends after the socket time-out (seconds)."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout: float = SOCKET_TIMEOUT
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._timeout = timeout

    @property
    def usable(self) -> bool:
        """Whether neither side has closed it."""
        return not (self._reader.at_eof() or self._writer.is_closing())

    async def send(self, data: bytes) -> None:
        """Write ``data``. Raises :class:`Unreachable`: Kong does not try a failed write again."""
        try:
            self._writer.write(data)
            await asyncio.wait_for(self._writer.drain(), self._timeout)
        except asyncio.TimeoutError:
            raise Unreachable("timeout") from None
        except OSError as error:
            raise Unreachable(error.strerror or str(error)) from error

    async def receive(self) -> bytes:
        """Read what is there. Raises :class:`Closed` at the end, :class:`Unreachable` when nothing comes."""
        try:
            data = await asyncio.wait_for(self._reader.read(_CHUNK), self._timeout)
        except asyncio.TimeoutError:
            raise Unreachable("timeout") from None
        except OSError as error:
            raise Closed(error.strerror or str(error)) from error
        if not data:
            raise Closed("closed")
        return data

    def close(self) -> None:
        """Close at once; a second time does nothing."""
        self._writer.close()


class Pool:
    """Connections to one socket, the last one given back being the first one taken."""

    def __init__(self, path: Path, timeout: float = SOCKET_TIMEOUT) -> None:
        self.path = path
        self._timeout = timeout
        self._idle: list[tuple[Connection, asyncio.TimerHandle]] = []
        self._open = True

    async def take(self) -> Connection:
        """An idle connection or a new one. Raises :class:`Unreachable`."""
        while self._idle:
            connection, expiry = self._idle.pop()
            expiry.cancel()
            if connection.usable:
                return connection
            connection.close()
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_unix_connection(str(self.path)), self._timeout)
        except asyncio.TimeoutError:
            raise Unreachable("timeout") from None
        except OSError as error:
            raise Unreachable(f"connect() to unix:{self.path} failed ({error.strerror or error})") from error
        return Connection(reader, writer, self._timeout)

    def give(self, connection: Connection) -> None:
        """Give a connection back that is between two messages."""
        if not self._open or not connection.usable:
            connection.close()
            return
        expiry = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._expire, connection)
        self._idle.append((connection, expiry))
        if len(self._idle) > IDLE_CONNECTIONS:
            oldest, timer = self._idle.pop(0)
            timer.cancel()
            oldest.close()

    def close(self) -> None:
        """Close the idle connections, and those in use as soon as they are given back."""
        self._open = False
        while self._idle:
            connection, expiry = self._idle.pop()
            expiry.cancel()
            connection.close()

    def _expire(self, connection: Connection) -> None:
        self._idle = [entry for entry in self._idle if entry[0] is not connection]
        connection.close()
