"""Sends requests to upstreams, with retries over the targets, and returns responses whose bodies are streams.

Connections are kept alive between requests.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpcore

from kong_pdk.gateway.balancer import Address, Balancer, NoPeer
from kong_pdk.gateway.client_side import ClientBody
from kong_pdk.gateway.error_responses import error_exit, nginx_error
from kong_pdk.gateway.exchange import Exchange, Exit
from kong_pdk.gateway.forwarding import joined, upstream_headers

# Kong's upstream_keepalive_idle_timeout in seconds and upstream_keepalive_pool_size.
_IDLE_SECONDS = 60.0
_IDLE_CONNECTIONS = 512
# How often all idle connections are checked for their end, in seconds.
_SWEEP_SECONDS = 10.0


@dataclass(frozen=True)
class Peer:
    """The other side of a connection. Connections to the same peer are interchangeable."""

    scheme: bytes
    host: bytes
    port: int
    verify: bool = False
    server_name: str = ""


@dataclass(frozen=True)
class Answer:
    """The upstream's response. Its connection is kept alive if the body is read completely, or else closed."""

    response: httpcore.Response
    _connections: Connections
    _peer: Peer
    _connection: httpcore.AsyncHTTPConnection

    async def close(self) -> None:
        """Give the connection back. It must be called exactly once."""
        try:
            await self.response.aclose()
        finally:
            if self._connection.is_idle():
                await self._connections.keep(self._peer, self._connection)
            else:
                await self._connection.aclose()


class Connections:
    """Idle connections by peer. Like nginx, it takes the most recently used one first.

    httpcore's own pool iterates over all its connections for each request.
    """

    def __init__(self) -> None:
        self._idle: dict[Peer, deque[httpcore.AsyncHTTPConnection]] = {}
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self._closed = False
        self._next_sweep = 0.0

    async def send(self, peer: Peer, request: httpcore.Request) -> Answer:
        """Send a request over an idle connection, or a new one. Raises httpcore's exceptions."""
        connection = await self._idle_connection(peer) or self._new_connection(peer)
        try:
            return Answer(await connection.handle_async_request(request), self, peer, connection)
        except BaseException:
            await connection.aclose()
            raise

    async def keep(self, peer: Peer, connection: httpcore.AsyncHTTPConnection) -> None:
        """Keep an idle connection."""
        idle = self._idle.setdefault(peer, deque())
        idle.append(connection)
        if self._closed or len(idle) > _IDLE_CONNECTIONS:
            await idle.popleft().aclose()
        if time.monotonic() > self._next_sweep:
            self._next_sweep = time.monotonic() + _SWEEP_SECONDS
            await self._sweep()

    async def _sweep(self) -> None:
        """Close expired connections, also of peers that get no more requests."""
        for peer, idle in list(self._idle.items()):
            expired = [connection for connection in idle if connection.has_expired()]
            for connection in expired:
                idle.remove(connection)
            if not idle and self._idle.get(peer) is idle:
                del self._idle[peer]
            for connection in expired:
                await connection.aclose()

    async def close(self) -> None:
        """Close idle connections now, and the others when they are given back."""
        self._closed = True
        for idle in list(self._idle.values()):
            while idle:
                await idle.pop().aclose()

    async def _idle_connection(self, peer: Peer) -> httpcore.AsyncHTTPConnection | None:
        idle = self._idle.get(peer)
        while idle:
            connection = idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    def _new_connection(self, peer: Peer) -> httpcore.AsyncHTTPConnection:
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
                # ssl.create_default_context takes a tenth of a second to load authorities, which are not needed here.
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._contexts[verify] = context
        return context


_NOT_REPEATED = frozenset({"POST", "LOCK", "PATCH"})  # nginx repeats a request with any other method
_BEFORE_SENDING = (httpcore.ConnectError, httpcore.ConnectTimeout)
# httpcore refuses these bytes of a target, which nginx sends as they are.
_UNSENDABLE = re.compile(rb"[\x7f-\xff]")
_DEFAULT_PORTS = {"http": 80, "https": 443}

Failure = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.RemoteProtocolError)


@dataclass(frozen=True)
class Sender:
    """Sends the request of one exchange."""

    connections: Connections
    balancer: Balancer
    exchange: Exchange
    body: ClientBody

    async def send(self) -> Answer:
        """The upstream's response with its body unread. The caller closes it.

        Tries the next target if a connection fails, or if an idempotent request fails without a response. Raises
        :class:`Exit` with Kong's 502, 503 or 504, and the exceptions of reading the client's body.
        """
        upstream = self.exchange.upstream
        for remaining in range(upstream.retries, -1, -1):
            address = self._next_address()
            try:
                return await self._try(address)
            except Failure as error:
                self._log_failure(address, error)
                if not remaining or not self._may_retry(error):
                    raise self._error_response(error) from error
        raise nginx_error(self.exchange, 502)

    def _next_address(self) -> Address:
        try:
            return self.balancer.next_try(self.exchange)
        except NoPeer:
            raise error_exit(self.exchange, 503, "failure to get a peer from the ring-balancer") from None

    async def _try(self, address: Address) -> Answer:
        upstream = self.exchange.upstream
        host = self._host_header(address)
        size, content = await self._content()
        target = upstream.path + (b"?" + upstream.raw_query if upstream.raw_query else b"")
        target = _UNSENDABLE.sub(lambda found: b"%%%02X" % found[0][0], target)
        name = host.decode("latin-1").rsplit(":", 1)[0]
        tls = upstream.scheme == "https"
        verify = tls and bool(upstream.tls_verify)
        peer = Peer(upstream.scheme.encode(), address.host.encode(), address.port, verify, name if tls else "")
        request = httpcore.Request(
            method=upstream.method.encode("utf-8", "surrogateescape"),
            url=httpcore.URL(scheme=peer.scheme, host=peer.host, port=peer.port, target=target),
            headers=upstream_headers(self.exchange, host, size),
            content=content,
            extensions={
                "timeout": {
                    "connect": upstream.connect_timeout,
                    "read": upstream.read_timeout,
                    "write": upstream.write_timeout,
                },
                "sni_hostname": name,
            },
        )
        return await self.connections.send(peer, request)

    async def _content(self) -> tuple[int | None, AsyncIterator[bytes] | bytes]:
        body = self.exchange.upstream.body
        if body is not None:
            return len(body), body
        if not self.body.has_body_header:
            return None, b""
        return await self.body.size(), self.body.stream()

    def _host_header(self, address: Address) -> bytes:
        exchange = self.exchange
        upstream = exchange.upstream
        if upstream.host_header is not None:
            return upstream.host_header.encode("utf-8", "surrogateescape")
        if exchange.route is not None and exchange.route.preserve_host:
            sent = joined(exchange.request.headers, b"host")
            if sent is not None:
                return sent
        name = f"[{address.name}]" if ":" in address.name else address.name
        if address.port != _DEFAULT_PORTS.get(upstream.scheme):
            name = f"{name}:{address.port}"
        return name.encode("utf-8", "surrogateescape")

    def _may_retry(self, error: Exception) -> bool:
        if not self.body.replayable and self.exchange.upstream.body is None:
            return False
        return isinstance(error, _BEFORE_SENDING) or self.exchange.upstream.method not in _NOT_REPEATED

    def _log_failure(self, address: Address, error: Exception) -> None:
        self.exchange.tries[-1]["state"] = "failed"
        self.exchange.tries[-1]["code"] = 504 if isinstance(error, httpcore.TimeoutException) else 502
        reason = str(error) or type(error).__name__
        self.exchange.node.log.write(
            "error",
            f"{reason} while talking to upstream {address.host}:{address.port}, "
            f'request: "{self.exchange.request.method} {self.exchange.upstream.path.decode("latin-1")}", '
            f'request_id: "{self.exchange.request_id}"',
        )

    def _error_response(self, error: Exception) -> Exit:
        if isinstance(error, httpcore.TimeoutException):
            return nginx_error(self.exchange, 504)
        if _is_name_error(error):
            return error_exit(self.exchange, 503, "name resolution failed")
        return nginx_error(self.exchange, 502)


def _is_name_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, socket.gaierror):
            return True
        error = error.__cause__
    return False
