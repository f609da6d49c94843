"""The plugins behind plugin servers, and the servers that the gateway runs itself."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kong_pdk import interface_file
from kong_pdk.gateway.entities import PluginConfig
from kong_pdk.gateway.exchange import Exchange
from kong_pdk.gateway.gateway_settings import PluginServer, Settings
from kong_pdk.gateway.nginx_logs import ErrorLog
from kong_pdk.gateway.pdk import Event
from kong_pdk.gateway.servers.failures import PluginServerError
from kong_pdk.gateway.servers.managed_server import ManagedServer
from kong_pdk.gateway.servers.msgpack_client import MsgPackClient
from kong_pdk.gateway.servers.plugin_query import PluginInfo, query
from kong_pdk.gateway.servers.pool import SOCKET_TIMEOUT, Pool
from kong_pdk.gateway.servers.protobuf_client import ProtoBufClient
from kong_pdk.wire.interface import STOCK, Interface


class _Client(Protocol):
    async def handle(self, event: Event) -> None: ...


@dataclass(frozen=True)
class ExternalPlugin:
    """A plugin behind a plugin server."""

    info: PluginInfo
    client: _Client

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def priority(self) -> int:
        return self.info.priority

    @property
    def phases(self) -> Collection[str]:
        return self.info.phases

    @property
    def fields(self) -> tuple[dict[str, Any], ...]:
        """The fields of the plugin's configuration, from its schema."""
        return self.info.fields

    async def run(self, exchange: Exchange, plugin: PluginConfig, phase: str) -> None:
        """Send one event. Raises Exit to answer the client; Refused and PluginFailed are a 500."""
        await self.client.handle(Event(exchange, plugin, phase, self.info.protocol))


class PluginServers:
    """All external plugins of one generation of the gateway.

    ``plugins`` are by name; of two servers with a plugin of one name the last wins, as in Kong 3.9. ``interface`` is
    what those that speak ProtoBuf:1 can call.
    """

    def __init__(
        self, found: Iterable[PluginInfo], managed: Iterable[ManagedServer], timeout: float, interface: Interface
    ) -> None:
        self._pools: dict[Path, Pool] = {}
        self._managed = list(managed)
        self.plugins: dict[str, ExternalPlugin] = {}
        for info in found:
            pool = self._pools.setdefault(info.server.socket, Pool(info.server.socket, timeout))
            client: _Client = (
                ProtoBufClient(info.name, pool, interface)
                if info.protocol == "ProtoBuf:1"
                else MsgPackClient(info.name, pool)
            )
            self.plugins[info.name] = ExternalPlugin(info, client)

    @classmethod
    async def load(
        cls,
        settings: Settings,
        environment: Mapping[str, str],
        log: ErrorLog,
        bundled: Collection[str],
        timeout: float = SOCKET_TIMEOUT,
    ) -> PluginServers:
        """Ask all plugin servers for their plugins. Raises :class:`PluginServerError` in Kong's words.

        The query commands run only when a plugin is enabled that is not ``bundled``. ``timeout`` is that of
        the sockets, in seconds. Raises InterfaceError when the interface file cannot be read.
        """
        interface = interface_file.load(settings.interface_file) or STOCK
        external = [name for name in settings.plugins if name not in bundled]
        found: list[PluginInfo] = []
        if external:
            answers = [await query(server, environment, log) for server in settings.pluginservers]
            found = [info for info in answers if info is not None]
        _check_installed(external, found)
        _warn_of_unmanaged(settings.pluginservers, log)
        managed = [ManagedServer(server, log) for server in settings.pluginservers if server.start_command]
        return cls(found, managed, timeout, interface)

    def start(self) -> None:
        """Run the start commands. At a reload the new servers start before the old ones are stopped."""
        for server in self._managed:
            server.start()

    async def stop(self) -> None:
        """Stop the servers that were started here and close the connections."""
        for pool in self._pools.values():
            pool.close()
        await asyncio.gather(*(server.stop() for server in self._managed))
        await asyncio.sleep(0)  # connections close in the loop's next turn


def _check_installed(enabled: Iterable[str], found: Iterable[PluginInfo]) -> None:
    known = {info.name for info in found}
    for name in enabled:
        if name not in known:
            raise PluginServerError(
                f"error loading plugin schemas: on plugin '{name}': {name} plugin is enabled but not installed;"
                "\nno plugin found"
            )


def _warn_of_unmanaged(servers: Iterable[PluginServer], log: ErrorLog) -> None:
    for server in servers:
        if not server.start_command:
            log.write(
                "warn",
                f"start_command undefined for pluginserver {server.name}; assuming external process management",
            )
