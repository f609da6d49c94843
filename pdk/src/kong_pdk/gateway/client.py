"""The client's side of an exchange: its request as it was received, its response as it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from kong_pdk.gateway.exchange import Body, RawHeaders, Request
from kong_pdk.gateway.protocol import Protocol
from kong_pdk.gateway.tunnel import ClientStream

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# nginx's send_timeout in seconds: between two writes, not for the whole response.
_SEND_TIMEOUT = 60.0


def _split(target: bytes) -> tuple[bytes, bytes, bytes]:
    """Authority (empty if none), path and query of a request target."""
    authority = b""
    head, scheme_end, rest = target.partition(b"://")
    if scheme_end and head.isalpha():
        authority, slash, rest = rest.partition(b"/")
        target = slash + rest or b"/"
    path, _, query = target.partition(b"?")
    return authority, path or b"/", query


def host_name(value: bytes) -> str:
    """A Host header without its port, in lower case."""
    name = value.decode("utf-8", "surrogateescape").strip().lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]


def request_of(scope: Scope, read_body: Callable[[], Awaitable[Body]]) -> Request:
    """The request of an ASGI scope that came over :class:`Protocol`."""
    protocol = protocol_of(scope)
    connection = protocol.conn
    secured = protocol.transport.get_extra_info("ssl_object")
    authority, path, query = _split(connection.target)
    headers: RawHeaders = list(connection.headers)
    for name, value in headers if not authority else ():
        if name.lower() == b"host":
            authority = value
            break
    address, port = scope["server"]
    client = scope["client"] or ("127.0.0.1", 0)
    return Request(
        method=scope["method"],
        raw_path=path,
        raw_query=query,
        http_version=scope["http_version"],
        headers=headers,
        scheme=scope["scheme"],
        host=host_name(authority) or address,
        port=port,
        client_ip=client[0],
        client_port=client[1],
        read_body=read_body,
        tls_version=None if secured is None else secured.version(),
    )


def protocol_of(scope: Scope) -> Protocol:
    """The connection that a request came over."""
    protocol = scope["extensions"]["kong"]
    assert isinstance(protocol, Protocol)
    return protocol


class ClientStuck(Exception):
    """The client took nothing of its response for a minute."""


class Client:
    """Sends one response. ``sent`` counts the bytes of its body."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._protocol = protocol_of(scope)
        self._send = send
        self.started = False
        self.complete = False
        self.gone = False
        self.sent = 0

    async def start(self, status: int, headers: RawHeaders) -> None:
        """Send the status line and the headers."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes, more: bool) -> None:
        """Send a piece of the body. A client that takes nothing for a minute makes :class:`ClientStuck`."""
        message = {"type": "http.response.body", "body": data, "more_body": more}
        self.sent += len(data)
        self.complete = not more
        if self._protocol.flow.write_paused:
            try:
                await asyncio.wait_for(self._send(message), _SEND_TIMEOUT)
            except asyncio.TimeoutError:
                raise ClientStuck from None
        else:
            await self._send(message)

    def switch(self, headers: RawHeaders) -> ClientStream:
        """Answer 101: from now on the client's connection carries whatever it likes, and its end is nothing odd."""
        self.started = self.complete = True
        return _Switched(self, self._protocol, self._protocol.switch(headers))

    def abort(self) -> None:
        """Cut the connection: the response cannot be finished, and the client must not take it for whole."""
        self._protocol.abort()

    def hang_up(self) -> None:
        """Close the connection without an answer."""
        self.complete = True
        self._protocol.transport.close()

    async def cancelled_when_gone(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work``; when the client closes its connection before it is done, cancel it and set ``gone``."""
        task = asyncio.current_task()
        assert task is not None
        if self._protocol.transport.is_closing():
            self.gone = True
            return

        def leave() -> None:
            # After the last byte it is the server that closes.
            if not self.complete:
                self.gone = True
                task.cancel()

        connection = self._protocol.conn
        connection.on_disconnect = leave
        try:
            await work()
        except asyncio.CancelledError:
            if not self.gone:
                raise
            # What follows, the log phase above all, is not to be taken for cancelled (since Python 3.11).
            getattr(task, "uncancel", int)()
        finally:
            if connection.on_disconnect is leave:
                connection.on_disconnect = None


@dataclass(frozen=True)
class _Switched:
    """A client that has left HTTP."""

    client: Client
    protocol: Protocol
    reader: asyncio.StreamReader

    async def read(self, size: int) -> bytes:
        return await self.reader.read(size)

    async def write(self, data: bytes) -> None:
        self.client.sent += len(data)
        self.protocol.transport.write(data)
        if self.protocol.flow.write_paused:
            await self.protocol.flow.drain()
