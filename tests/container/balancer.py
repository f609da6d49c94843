"""A balancer for tests: it passes connections to several servers, in turn.

It behaves as balancers do in general: a server that refuses a connection is out until a health check succeeds, and the
connection goes to the next one. What has been sent to a server is never sent to another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

Address = tuple[str, int]

_CONNECT_SECONDS = 20.0
_CHECK_SECONDS = 0.25
_CHUNK = 64 * 1024


class Target:
    """A server of the balancer."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self.is_in = False
        """Whether it gets connections."""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Open a connection, or take the server out."""
        if not self.is_in:
            return None
        try:
            return await asyncio.wait_for(asyncio.open_connection(*self._address), _CONNECT_SECONDS)
        except (OSError, asyncio.TimeoutError):
            self.is_in = False
            return None

    async def check(self) -> None:
        """Take the server in if it answers a request."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.is_in = await asyncio.to_thread(self._answers)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(*self._address, timeout=_CONNECT_SECONDS)
        try:
            connection.request("GET", "/", headers={"connection": "close"})
            return connection.getresponse().status == http.HTTPStatus.OK
        finally:
            connection.close()


class Balancer:
    """Passes connections to the targets that are in."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = list(targets)
        self._turn = 0
        self.address: Address = ("127.0.0.1", 0)
        self.opened, self.closing = threading.Event(), threading.Event()

    async def run(self) -> None:
        """Listen on a free port of 127.0.0.1, and check the targets that are out."""
        server = await asyncio.start_server(self._serve, *self.address, backlog=1024)
        async with server:
            self.address = server.sockets[0].getsockname()
            self.opened.set()
            while not self.closing.is_set():
                await asyncio.gather(*(target.check() for target in self._targets if not target.is_in))
                await asyncio.sleep(_CHECK_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            self._turn = (self._turn + 1) % len(self._targets)
            for target in (*self._targets[self._turn :], *self._targets[: self._turn]):
                connection = await target.connect()
                if connection is not None:
                    break
            else:
                return  # the client sees that as a failure
            with contextlib.closing(connection[1]):
                directions = [_pass_on(reader, connection[1]), _pass_on(connection[0], writer)]
                tasks = [asyncio.create_task(direction) for direction in directions]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction of a connection until it ends, in whatever way."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()


@contextmanager
def balance(*targets: Target) -> Iterator[Balancer]:
    """Run a balancer on a thread during the block."""
    balancer = Balancer(targets)
    thread = threading.Thread(target=lambda: asyncio.run(balancer.run()))
    thread.start()
    try:
        assert balancer.opened.wait(10), "the balancer does not listen"
        yield balancer
    finally:
        balancer.closing.set()
        thread.join()
