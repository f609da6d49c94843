"""The listening sockets for HTTP and for streams, and how they are closed gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from kong_pdk.gateway.acceptor import Acceptor, Serve, bind
from kong_pdk.gateway.exchange import Statistics
from kong_pdk.gateway.gateway_settings import Listener
from kong_pdk.gateway.http_protocol import KEEP_ALIVE, Protocol
from kong_pdk.gateway.nginx_logs import ErrorLog

# How long broken off connections may take to close, in seconds.
_CUT_OFF_SECONDS = 1.0
# How often a graceful end looks whether the requests in flight have finished.
_LOOK_SECONDS = 0.01


@dataclass(frozen=True)
class Address:
    """An address of the gateway, with the actual port."""

    host: str
    port: int
    ssl: bool


HandshakeGate = Callable[[socket.socket], Awaitable[bool]]


async def _open_gate(connection: socket.socket) -> bool:
    return True


class Listeners:
    """Sockets that serve one ASGI application. Their connections are counted in ``statistics``.

    ``gate`` decides before each TLS handshake whether it may begin; if not, ``gate`` closes the connection.
    """

    def __init__(self, app: Any, statistics: Statistics, gate: HandshakeGate = _open_gate) -> None:
        self._statistics = statistics
        self._gate = gate
        self._config = Config(
            app,
            http=Protocol,
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE,
        )
        self._state = ServerState()
        self._acceptors: list[Acceptor] = []
        self._tls_acceptors: list[Acceptor] = []
        self.addresses: list[Address] = []

    async def open(self, listeners: Sequence[Listener], context: ssl.SSLContext | None) -> None:
        """Listen on all addresses, or on none of them. Raises OSError with the address that cannot be used."""
        try:
            for listener in listeners:
                await self._open(listener, context if listener.ssl else None)
        except OSError:
            await self.close(0)
            raise

    async def _open(self, listener: Listener, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        bound = bind(listener, "KONG_PROXY_LISTEN or KONG_STATUS_LISTEN")
        make_protocol = functools.partial(
            Protocol,
            config=self._config,
            server_state=self._state,
            app_state={"statistics": self._statistics},
            _loop=loop,
        )
        try:
            if context is None:
                serve = functools.partial(_serve_plain, make_protocol)
                self._acceptors.append(Acceptor(bound, listener.backlog, serve))
            else:
                serve = functools.partial(self._shake_hands, make_protocol, context)
                self._tls_acceptors.append(Acceptor(bound, listener.backlog, serve))
        except BaseException:
            bound.close()
            raise
        self.addresses.append(Address(listener.host, bound.getsockname()[1], listener.ssl))

    async def _shake_hands(
        self, make_protocol: Callable[[], Protocol], context: ssl.SSLContext, connection: socket.socket
    ) -> None:
        try:
            passes = await self._gate(connection)
        except BaseException:
            connection.close()
            raise
        if passes:
            with contextlib.suppress(OSError):  # the client does not speak TLS, or has closed the connection
                await asyncio.get_running_loop().connect_accepted_socket(make_protocol, connection, ssl=context)

    async def close(self, grace: float) -> None:
        """Accept no more connections, let requests in flight finish for ``grace`` seconds, then break them off."""
        accepted: set[asyncio.Task[None]] = set()
        for acceptor in self._acceptors:
            acceptor.close()
            accepted |= acceptor.tasks
        await asyncio.gather(*accepted)
        handshakes: set[asyncio.Task[None]] = set()
        for acceptor in self._tls_acceptors:
            acceptor.close()
            handshakes |= acceptor.tasks
        for task in handshakes:
            task.cancel()  # the client has not sent a request yet
        await asyncio.gather(*handshakes, return_exceptions=True)
        for connection in self._connections():
            connection.shutdown()
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        while loop.time() < end and (self._state.tasks or any(each.awaits_request for each in self._connections())):
            await asyncio.sleep(_LOOK_SECONDS)
        for connection in self._connections():
            connection.abort()
        pending = set(self._state.tasks)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=_CUT_OFF_SECONDS)
        await self._wait_until_closed()

    def _connections(self) -> list[Protocol]:
        return [connection for connection in self._state.connections if isinstance(connection, Protocol)]

    async def _wait_until_closed(self) -> None:
        """Let the loop close its sockets: none may be open when the loop itself is closed."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _CUT_OFF_SECONDS
        while self._state.connections and loop.time() < end:
            await asyncio.sleep(0)


async def _serve_plain(make_protocol: Callable[[], Protocol], connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client has closed it
        await asyncio.get_running_loop().connect_accepted_socket(make_protocol, connection)


class StreamListeners:
    """Sockets whose connections are served by one function."""

    def __init__(self, serve: Serve, log: ErrorLog) -> None:
        self._serve = serve
        self._log = log
        self._acceptors: list[Acceptor] = []
        self.addresses: list[Address] = []

    async def open(self, listeners: Sequence[Listener]) -> None:
        """Listen on all addresses, or on none of them. Raises OSError with the address that cannot be used."""
        try:
            for listener in listeners:
                bound = bind(listener, "KONG_STREAM_LISTEN")
                try:
                    self._acceptors.append(Acceptor(bound, listener.backlog, self._serve))
                except BaseException:
                    bound.close()
                    raise
                self.addresses.append(Address(listener.host, bound.getsockname()[1], ssl=False))
        except OSError:
            await self.close(0)
            raise

    async def close(self, grace: float) -> None:
        """Accept no more connections, let open ones end for ``grace`` seconds, then break them off."""
        for acceptor in self._acceptors:
            acceptor.close()
        pending = {task for acceptor in self._acceptors for task in acceptor.tasks}
        if pending and grace > 0:
            _, pending = await asyncio.wait(pending, timeout=grace)
        if pending:
            self._log.write("notice", f"{len(pending)} open TCP connections were cut off")
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=_CUT_OFF_SECONDS)
