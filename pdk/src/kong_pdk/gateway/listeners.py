"""The sockets that clients connect to, and how they are drained."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from kong_pdk.gateway.node import Statistics
from kong_pdk.gateway.protocol import KEEP_ALIVE, Protocol
from kong_pdk.gateway.settings import Listener

# How long what was cut off may take to be gone, in seconds.
_LAST_TURNS = 1.0


@dataclass(frozen=True)
class Address:
    """Where the gateway can be reached, with the port it really got."""

    host: str
    port: int
    ssl: bool


class Listeners:
    """Sockets that serve one ASGI application. Their connections are counted in ``statistics``."""

    def __init__(self, app: Any, statistics: Statistics) -> None:
        self._statistics = statistics
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
        self._servers: list[asyncio.Server] = []
        self.addresses: list[Address] = []

    async def open(self, listeners: Sequence[Listener], context: ssl.SSLContext | None) -> None:
        """Listen on all addresses, or on none. Raises OSError with the address that cannot be had."""
        try:
            for listener in listeners:
                await self._open(listener, context if listener.ssl else None)
        except OSError:
            await self.close(0)
            raise

    async def _open(self, listener: Listener, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        bound = _bind(listener)
        make = functools.partial(
            Protocol,
            config=self._config,
            server_state=self._state,
            app_state={"statistics": self._statistics},
            _loop=loop,
        )
        try:
            server = await loop.create_server(make, sock=bound, ssl=context, backlog=listener.backlog)
        except BaseException:
            bound.close()
            raise
        self._servers.append(server)
        self.addresses.append(Address(listener.host, bound.getsockname()[1], listener.ssl))

    async def close(self, grace: float) -> None:
        """Take no new connections, let requests in flight finish for ``grace`` seconds, then cut them off."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for connection in list(self._state.connections):
            connection.shutdown()
        pending = set(self._state.tasks)
        if pending and grace > 0:
            _, pending = await asyncio.wait(pending, timeout=grace)
        for connection in list(self._state.connections):
            assert isinstance(connection, Protocol)
            connection.abort()
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=_LAST_TURNS)
        await self._closed()

    async def _closed(self) -> None:
        """Give the loop its turns to close sockets: who closes the loop next must find none open."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _LAST_TURNS
        while self._state.connections and loop.time() < end:
            await asyncio.sleep(0)


def _bind(listener: Listener) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for sockets that say they are TCP.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((listener.host, listener.port))
    except OSError as error:
        bound.close()
        reason = error.strerror or str(error)
        raise OSError(
            f"bind() to {listener.host}:{listener.port} failed ({error.errno}: {reason}); "
            "stop what listens there, or change KONG_PROXY_LISTEN or KONG_STATUS_LISTEN"
        ) from error
    return bound
