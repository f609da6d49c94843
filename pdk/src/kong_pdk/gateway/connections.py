"""Connections to upstreams, kept alive between requests."""

from __future__ import annotations

import ssl
import time
from collections import deque
from dataclasses import dataclass

import httpcore

# Kong's upstream_keepalive_idle_timeout in seconds and upstream_keepalive_pool_size.
_IDLE_SECONDS = 60.0
_IDLE_CONNECTIONS = 512
# How often all of them are looked at, in seconds.
_SWEEP_SECONDS = 10.0


@dataclass(frozen=True)
class Peer:
    """Whom a connection is to: connections to one peer can stand in for each other."""

    scheme: bytes
    host: bytes
    port: int
    verify: bool = False
    server_name: str = ""


@dataclass(frozen=True)
class Answer:
    """The upstream's answer. Its connection is kept when the whole body has been read, and closed otherwise."""

    response: httpcore.Response
    _connections: Connections
    _peer: Peer
    _connection: httpcore.AsyncHTTPConnection

    async def close(self) -> None:
        """Give the connection back. To be called once, whatever has happened."""
        try:
            await self.response.aclose()
        finally:
            if self._connection.is_idle():
                await self._connections.keep(self._peer, self._connection)
            else:
                await self._connection.aclose()


class Connections:
    """Idle connections by peer, the one used last first, as nginx does it.

    httpcore's own pool looks at all of its connections for each request.
    """

    def __init__(self) -> None:
        self._idle: dict[Peer, deque[httpcore.AsyncHTTPConnection]] = {}
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self._closed = False
        self._next_sweep = 0.0

    async def send(self, peer: Peer, request: httpcore.Request) -> Answer:
        """Send a request over an idle connection, or a new one. Raises httpcore's exceptions."""
        connection = await self._take(peer) or self._new(peer)
        try:
            return Answer(await connection.handle_async_request(request), self, peer, connection)
        except BaseException:
            await connection.aclose()
            raise

    async def keep(self, peer: Peer, connection: httpcore.AsyncHTTPConnection) -> None:
        """Keep a connection that has no request."""
        idle = self._idle.setdefault(peer, deque())
        idle.append(connection)
        if self._closed or len(idle) > _IDLE_CONNECTIONS:
            await idle.popleft().aclose()
        if time.monotonic() > self._next_sweep:
            self._next_sweep = time.monotonic() + _SWEEP_SECONDS
            await self._sweep()

    async def _sweep(self) -> None:
        """Close what has expired, with peers too that nobody asks for again."""
        for peer, idle in list(self._idle.items()):
            expired = [connection for connection in idle if connection.has_expired()]
            for connection in expired:
                idle.remove(connection)
            if not idle and self._idle.get(peer) is idle:
                del self._idle[peer]
            for connection in expired:
                await connection.aclose()

    async def close(self) -> None:
        """Close the idle connections, and those in use when they are given back."""
        self._closed = True
        for idle in list(self._idle.values()):
            while idle:
                await idle.pop().aclose()

    async def _take(self, peer: Peer) -> httpcore.AsyncHTTPConnection | None:
        idle = self._idle.get(peer)
        while idle:
            connection = idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    def _new(self, peer: Peer) -> httpcore.AsyncHTTPConnection:
        return httpcore.AsyncHTTPConnection(
            origin=httpcore.Origin(peer.scheme, peer.host, peer.port),
            ssl_context=self._context(peer.verify) if peer.scheme == b"https" else None,
            keepalive_expiry=_IDLE_SECONDS,
        )

    def _context(self, verify: bool) -> ssl.SSLContext:
        context = self._contexts.get(verify)
        if context is None:
            if verify:
                context = ssl.create_default_context()
            else:
                # Loading the system's authorities takes a tenth of a second, for nothing here.
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._contexts[verify] = context
        return context
