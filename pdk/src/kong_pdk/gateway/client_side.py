"""The client's side of an exchange: its request, whose body is streamed or read, and the response to it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from kong_pdk.gateway.exchange import Body, RawHeaders, Request
from kong_pdk.gateway.http_protocol import Protocol
from kong_pdk.gateway.tunnel import ClientStream

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# nginx's client_body_timeout: seconds between two reads.
_BODY_TIMEOUT = 60.0
# nginx's send_timeout: seconds between two writes, not for the complete response.
_SEND_TIMEOUT = 60.0
# Size of one read from a file.
_CHUNK_BYTES = 65536


class ClientGone(Exception):
    """The client closed its connection before the request was read completely."""


class ClientTooSlow(Exception):
    """The client sent no part of its body for a minute."""


class ClientStuck(Exception):
    """The client read no part of its response for a minute."""


class ClientBody:
    """Reads a request's body once, and then gives it any number of times.

    ``on_spooled`` is called with the file to which a body larger than the buffer is written.
    """

    def __init__(
        self,
        receive: Receive,
        headers: RawHeaders,
        folder: Path,
        buffer_size: int,
        on_spooled: Callable[[Path], None],
    ) -> None:
        self._receive = receive
        self._folder = folder
        self._buffer_size = buffer_size
        self._on_spooled = on_spooled
        self._lock = asyncio.Lock()
        self._body: Body | None = None
        self._file: Path | None = None
        self._started_reading = False
        names = {name.lower(): value for name, value in headers}
        self.chunked = b"transfer-encoding" in names
        self.has_body_header = self.chunked or b"content-length" in names
        self.length = None if self.chunked else int(names.get(b"content-length", b"0"))

    @property
    def expected(self) -> bool:
        """Whether the client sends a body that is not empty."""
        return self.chunked or bool(self.length)

    @property
    def replayable(self) -> bool:
        """Whether the body can be sent again, to another target."""
        return not self._started_reading or self._body is not None

    async def read(self) -> Body:
        """The complete body, in memory up to the buffer size, or else in a file of mode 0600.

        Raises :class:`ClientGone`, :class:`ClientTooSlow`, and OSError if the file cannot be written.
        """
        async with self._lock:
            if self._body is None:
                self._body = await self._read() if self.expected else Body()
            return self._body

    async def size(self) -> int:
        """The body's size in bytes; a chunked body is read first."""
        if self.length is not None:
            return self.length
        body = await self.read()
        return body.file.stat().st_size if body.file else len(body.content)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces, with only one piece in memory unless the body was read before."""
        if self._body is None:
            async for piece in self._receive_all():
                yield piece
        elif self._body.file is None:
            yield self._body.content
        else:
            with self._body.file.open("rb") as source:
                while piece := source.read(_CHUNK_BYTES):
                    yield piece

    def close(self) -> None:
        """Delete the body's file, if there is one."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            self._file = None

    async def _read(self) -> Body:
        memory = bytearray()
        target: BinaryIO | None = None
        try:
            async for piece in self._receive_all():
                if target is None and len(memory) + len(piece) > self._buffer_size:
                    target = self._create_file()
                    target.write(memory)
                if target is None:
                    memory += piece
                else:
                    target.write(piece)
        finally:
            if target is not None:
                target.close()
        return Body(bytes(memory)) if target is None else Body(b"", self._file)

    def _create_file(self) -> BinaryIO:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._folder)
        self._file = Path(name)
        self._on_spooled(self._file)
        return os.fdopen(descriptor, "wb")

    async def _receive_all(self) -> AsyncIterator[bytes]:
        self._started_reading = True
        more = self.expected
        while more:
            try:
                message = await asyncio.wait_for(self._receive(), _BODY_TIMEOUT)
            except asyncio.TimeoutError:
                raise ClientTooSlow from None
            if message["type"] != "http.request":
                raise ClientGone
            more = message.get("more_body", False)
            if piece := message.get("body", b""):
                yield piece


def _split_target(target: bytes) -> tuple[bytes, bytes, bytes]:
    """Authority (empty if there is none), path and query of a request target."""
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
    """The request of an ASGI scope of a :class:`Protocol`."""
    protocol = protocol_of(scope)
    connection = protocol.conn
    tls = protocol.transport.get_extra_info("ssl_object")
    authority, path, query = _split_target(connection.target)
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
        tls_version=None if tls is None else tls.version(),
    )


def protocol_of(scope: Scope) -> Protocol:
    """The connection of a request."""
    protocol = scope["extensions"]["kong"]
    assert isinstance(protocol, Protocol)
    return protocol


class Client:
    """Sends one response. ``sent`` is the number of bytes of its body."""

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
        """Send a piece of the body. Raises :class:`ClientStuck` if the client reads nothing for a minute."""
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
        """Answer 101. From now on the connection carries another protocol, and the client may close it at any time."""
        self.started = self.complete = True
        return _UpgradedClient(self, self._protocol, self._protocol.switch(headers))

    def abort(self) -> None:
        """Break off the connection, so that the client sees that its response is incomplete."""
        self._protocol.abort()

    def hang_up(self) -> None:
        """Close the connection without a response."""
        self.complete = True
        self._protocol.transport.close()

    async def cancelled_when_gone(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work``. If the client closes its connection meanwhile, cancel ``work`` and set ``gone``."""
        task = asyncio.current_task()
        assert task is not None
        if self._protocol.transport.is_closing():
            self.gone = True
            return

        def on_disconnect() -> None:
            # After the last byte of the response, the server itself closes the connection.
            if not self.complete:
                self.gone = True
                task.cancel()

        connection = self._protocol.conn
        connection.on_disconnect = on_disconnect
        try:
            await work()
        except asyncio.CancelledError:
            if not self.gone:
                raise
            # Since Python 3.11 the task otherwise counts as cancelled, and its log phase with it.
            getattr(task, "uncancel", int)()
        finally:
            if connection.on_disconnect is on_disconnect:
                connection.on_disconnect = None


@dataclass(frozen=True)
class _UpgradedClient:
    """A client's connection after a protocol upgrade."""

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
