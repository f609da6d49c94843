"""Reads a TLS client's hello without consuming it from the connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass

# Bytes that a client may send until its hello is complete. The hello of a browser has about 2,000.
LONGEST_HELLO = 16384

_HANDSHAKE = 22
# The expected byte, or nothing while it has not arrived.
_VERSIONS = (b"\x03", b"")
_CLIENT_HELLO = (b"\x01", b"")
_RECORD_HEADER_BYTES = 5
_MESSAGE_HEADER_BYTES = 4
_MAX_RECORD_BYTES = 16384 + 2048
_SERVER_NAME = 0
_HOST_NAME = 0
_SUPPORTED_VERSIONS = 43
_TLS_1_3 = b"\x03\x04"


class NotTls(Exception):
    """The client's first bytes are not a TLS handshake."""


@dataclass(frozen=True)
class ClientHello:
    """A TLS client's first message: the requested server name (SNI), and whether the client offers TLS 1.3."""

    server_name: str | None = None
    speaks_tls_1_3: bool = False


class _Truncated(Exception):
    """A field is longer than the message around it."""


class _Reader:
    """Reads the fields of a message one after another."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bool__(self) -> bool:
        return bool(self._data)

    def read(self, size: int) -> bytes:
        if len(self._data) < size:
            raise _Truncated
        field, self._data = self._data[:size], self._data[size:]
        return field

    def read_all(self) -> bytes:
        return self.read(len(self._data))

    def read_number(self, size: int) -> int:
        return int.from_bytes(self.read(size), "big")

    def read_vector(self, size: int) -> _Reader:
        """A part that follows its own length, which is a number of ``size`` bytes."""
        return _Reader(self.read(self.read_number(size)))


def parse(data: bytes) -> ClientHello | None:
    """The hello at the beginning of ``data``; None while it is not complete.

    Raises :class:`NotTls`, also for a hello that is longer than ``LONGEST_HELLO``.
    """
    message, start = bytearray(), 0
    while start < len(data):
        header = data[start : start + _RECORD_HEADER_BYTES]
        if header[0] != _HANDSHAKE or header[1:2] not in _VERSIONS:
            raise NotTls
        if len(header) < _RECORD_HEADER_BYTES:
            break
        start += _RECORD_HEADER_BYTES
        length = int.from_bytes(header[3:], "big")
        if not 0 < length <= _MAX_RECORD_BYTES:
            raise NotTls
        message += data[start : start + length]
        start += length
        body = _hello_body(message)
        if body is not None:
            return _parse_hello(body)
    if len(data) >= LONGEST_HELLO:
        raise NotTls
    return None


def _hello_body(message: bytearray) -> bytes | None:
    if message[:1] not in _CLIENT_HELLO:
        raise NotTls
    if len(message) < _MESSAGE_HEADER_BYTES:
        return None
    end = _MESSAGE_HEADER_BYTES + int.from_bytes(message[1:_MESSAGE_HEADER_BYTES], "big")
    return bytes(message[_MESSAGE_HEADER_BYTES:end]) if len(message) >= end else None


def _parse_hello(body: bytes) -> ClientHello:
    fields = _Reader(body)
    try:
        fields.read(2 + 32)  # version, random
        fields.read_vector(1)  # session
        fields.read_vector(2)  # ciphers
        fields.read_vector(1)  # compression
        return _parse_extensions(fields.read_vector(2)) if fields else ClientHello()
    except _Truncated:
        raise NotTls from None


def _parse_extensions(extensions: _Reader) -> ClientHello:
    by_kind: dict[int, _Reader] = {}
    while extensions:
        kind = extensions.read_number(2)
        by_kind[kind] = extensions.read_vector(2)
    name = _server_name(by_kind[_SERVER_NAME]) if _SERVER_NAME in by_kind else None
    versions = by_kind[_SUPPORTED_VERSIONS].read_vector(1) if _SUPPORTED_VERSIONS in by_kind else _Reader(b"")
    offered = []
    while versions:
        offered.append(versions.read(2))
    return ClientHello(name, _TLS_1_3 in offered)


def _server_name(content: _Reader) -> str | None:
    names = content.read_vector(2)
    while names:
        kind, name = names.read_number(1), names.read_vector(2).read_all()
        if kind == _HOST_NAME:
            return name.decode("ascii", "replace")
    return None


async def peek(connection: socket.socket) -> ClientHello | None:
    """Wait for a client's hello, and leave it in the socket's buffer; None if the client closes before it is complete.

    Raises :class:`NotTls`, and OSError if the connection breaks. There is no time limit here: callers set one.
    """
    data = b""
    try:
        while True:
            await _wait_until_readable(connection)
            received = connection.recv(LONGEST_HELLO, socket.MSG_PEEK)
            if len(received) <= len(data):
                return None
            data = received
            hello = parse(data)
            if hello is not None:
                return hello
            # Bytes that have already arrived must not wake up this task again.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(data) + 1)
    finally:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


async def _wait_until_readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(connection, _set_ready, ready)
    try:
        await ready
    finally:
        loop.remove_reader(connection)


def _set_ready(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
