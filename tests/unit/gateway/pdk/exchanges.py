"""Exchanges and events for calls of PDK functions."""

from __future__ import annotations

import asyncio
import io
import ipaddress
from dataclasses import dataclass, field
from typing import Any

from kong_pdk.gateway.entities import Config, PluginConfig
from kong_pdk.gateway.exchange import Body, Exchange, Node, RawHeaders, Request
from kong_pdk.gateway.gateway_settings import Settings
from kong_pdk.gateway.nginx_logs import ErrorLog, Stream
from kong_pdk.gateway.pdk import Event, call

PLUGIN = PluginConfig(id="11111111-0000-4000-8000-000000000001", name="probe", config={"note": "hello"})


@dataclass
class Scene:
    """An exchange, and the text of the error log."""

    exchange: Exchange
    written: io.StringIO = field(default_factory=io.StringIO)

    def event(self, phase: str = "access", protocol: str = "MsgPack:1", plugin: PluginConfig = PLUGIN) -> Event:
        self.exchange.phase = phase
        return Event(self.exchange, plugin, phase, protocol)

    def call(self, method: str, *args: Any, phase: str = "access", protocol: str = "MsgPack:1") -> Any:
        """Make a PDK call and give its result."""
        return asyncio.run(call(self.event(phase, protocol), method, list(args)))


def scene(
    headers: RawHeaders | None = None,
    raw_query: bytes = b"",
    trusted: bool = False,
    body: Body | None = None,
    config: Config | None = None,
) -> Scene:
    """Give a scene with a request for ``/here``."""

    async def read_body() -> Body:
        return body or Body()

    written = io.StringIO()
    networks = (ipaddress.ip_network("127.0.0.1/32"),) if trusted else ()
    settings = Settings(trusted_ips=networks)
    node = Node("node", "host", settings, config or Config(), ErrorLog(Stream(written), "debug"))
    given = [(b"Host", b"here.test")] if headers is None else headers
    request = Request("GET", b"/here", raw_query, "1.1", given, "http", "here.test", 8000, "127.0.0.1", 4711, read_body)
    exchange = Exchange(node, request, "0" * 32, phase="access")
    exchange.upstream.raw_query = raw_query
    exchange.upstream.headers = list(given)
    return Scene(exchange, written)
