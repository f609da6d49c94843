"""The client's request body: streamed through, or read into memory or a file when somebody asks for it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, BinaryIO

from kong_pdk.gateway.exchange import Body, RawHeaders

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

# nginx's client_body_timeout and proxy_buffer sizes: seconds between two reads, bytes of one read of a file.
_TIMEOUT = 60.0
_CHUNK = 65536


class ClientGone(Exception):
    """The client closed its connection before the whole request was read."""


class ClientTooSlow(Exception):
    """The client sent nothing of its body for a minute."""


class ClientBody:
    """Reads a request's body once and gives it as often as it is asked for.

    ``spooled`` is told of the file that a body goes to when it is larger than the buffer.
    """

    def __init__(
        self,
        receive: Receive,
        headers: RawHeaders,
        folder: Path,
        buffer_size: int,
        spooled: Callable[[Path], None] = lambda file: None,
    ) -> None:
        self._receive = receive
        self._folder = folder
        self._buffer_size = buffer_size
        self._spooled = spooled
        self._lock = asyncio.Lock()
        self._body: Body | None = None
        self._file: Path | None = None
        self._begun = False
        names = {name.lower(): value for name, value in headers}
        self.chunked = b"transfer-encoding" in names
        self.announced = self.chunked or b"content-length" in names
        self.length = None if self.chunked else int(names.get(b"content-length", b"0"))

    @property
    def expected(self) -> bool:
        """Whether the client has something to send."""
        return self.chunked or bool(self.length)

    @property
    def replayable(self) -> bool:
        """Whether the body can be sent again, to another target."""
        return not self._begun or self._body is not None

    async def read(self) -> Body:
        """The whole body: in memory up to the buffer size, in a file of mode 0600 above it.

        Raises :class:`ClientGone`, :class:`ClientTooSlow`, and OSError when the file cannot be written.
        """
        async with self._lock:
            if self._body is None:
                self._body = await self._read() if self.expected else Body()
            return self._body

    async def size(self) -> int:
        """The size of the whole body in bytes; a chunked body is read for it."""
        if self.length is not None:
            return self.length
        body = await self.read()
        return body.file.stat().st_size if body.file else len(body.content)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body piece by piece, never more than a piece in memory."""
        if self._body is None:
            async for piece in self._receive_all():
                yield piece
        elif self._body.file is None:
            yield self._body.content
        else:
            with self._body.file.open("rb") as source:
                while piece := source.read(_CHUNK):
                    yield piece

    def close(self) -> None:
        """Delete the file, if there is one."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            self._file = None

    async def _read(self) -> Body:
        memory = bytearray()
        target: BinaryIO | None = None
        try:
            async for piece in self._receive_all():
                if target is None and len(memory) + len(piece) > self._buffer_size:
                    target = self._create()
                    target.write(memory)
                if target is None:
                    memory += piece
                else:
                    target.write(piece)
        finally:
            if target is not None:
                target.close()
        return Body(bytes(memory)) if target is None else Body(b"", self._file)

    def _create(self) -> BinaryIO:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._folder)
        self._file = Path(name)
        self._spooled(self._file)
        return os.fdopen(descriptor, "wb")

    async def _receive_all(self) -> AsyncIterator[bytes]:
        self._begun = True
        more = self.expected
        while more:
            try:
                message = await asyncio.wait_for(self._receive(), _TIMEOUT)
            except asyncio.TimeoutError:
                raise ClientTooSlow from None
            if message["type"] != "http.request":
                raise ClientGone
            more = message.get("more_body", False)
            if piece := message.get("body", b""):
                yield piece
