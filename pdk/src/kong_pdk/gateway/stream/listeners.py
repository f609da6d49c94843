"""The sockets of ``stream_listen``, and how they are drained."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kong_pdk.gateway.acceptor import Acceptor, Serve, bind
from kong_pdk.gateway.listeners import Address
from kong_pdk.gateway.logs import ErrorLog
from kong_pdk.gateway.settings import Listener

# How long what was cut off may take to be gone, in seconds.
_LAST_TURNS = 1.0


class StreamListeners:
    """Sockets whose connections are served by one function."""

    def __init__(self, serve: Serve, log: ErrorLog) -> None:
        self._serve = serve
        self._log = log
        self._acceptors: list[Acceptor] = []
        self.addresses: list[Address] = []

    async def open(self, listeners: Sequence[Listener]) -> None:
        """Listen on all addresses, or on none. Raises OSError with the address that cannot be had."""
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
        """Take no new connections, let the open ones end for ``grace`` seconds, then cut them off."""
        for acceptor in self._acceptors:
            await acceptor.close()
        pending = {task for acceptor in self._acceptors for task in acceptor.tasks}
        if pending and grace > 0:
            _, pending = await asyncio.wait(pending, timeout=grace)
        if pending:
            self._log.write("notice", f"{len(pending)} open TCP connections were cut off")
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=_LAST_TURNS)
