"""A gateway on real sockets of 127.0.0.1, an upstream behind it, and a client that sends bytes."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import socket
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kong_pdk.gateway.entities import PluginConfig
from kong_pdk.gateway.exchange import Exchange
from kong_pdk.gateway.gateway import Gateway
from kong_pdk.gateway.gateway_settings import Settings
from kong_pdk.gateway.nginx_logs import ErrorLog, Stream
from kong_pdk.gateway.phases import Registry
from local_servers import ConnectionServer
from replies import Reply
from waiting import DEADLINE


class Loop:
    """An event loop in a thread; tests run coroutines on it and wait for the result."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.start(work).result(DEADLINE)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()


@dataclass
class Seen:
    """A request as the upstream received it."""

    line: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    size: int = 0

    def values(self, name: str) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name.encode()]

    def value(self, name: str) -> bytes | None:
        return next(iter(self.values(name)), None)


Answering = Callable[[Seen, socket.socket], None]


def plain(body: bytes = b"hello", status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def echo(seen: Seen, connection: socket.socket) -> None:
    method, path, _ = seen.line.decode("latin-1").split(" ")
    description = {"method": method, "path": path, "size": seen.size}
    connection.sendall(plain(json.dumps(description).encode(), "200 OK", "Content-Type: application/json", "X-Up: yes"))


class Upstream:
    """Answers every request with ``answer``, and keeps the requests. ``keep`` is the most bytes kept of a body."""

    def __init__(self) -> None:
        self.answer: Answering = echo
        self.on_piece: Callable[[int], None] = lambda size: None
        self.keep = 1 << 20
        self.seen: list[Seen] = []
        listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        self._server = ConnectionServer(listener, self._serve)
        self.close = self._server.close

    @property
    def connections(self) -> int:
        """The number of accepted connections."""
        return len(self._server.connections)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(ValueError), connection.makefile("rb") as reader:
            while (seen := self._read(reader)) is not None:
                self.seen.append(seen)
                self.answer(seen, connection)

    def _read(self, reader: io.BufferedReader) -> Seen | None:
        line = reader.readline().rstrip(b"\r\n")
        if not line:
            return None
        headers: list[tuple[bytes, bytes]] = []
        while header := reader.readline().rstrip(b"\r\n"):
            name, _, value = header.partition(b":")
            headers.append((name, value.strip()))
        seen = Seen(line, headers, b"")
        self._read_body(reader, seen)
        return seen

    def _read_body(self, reader: io.BufferedReader, seen: Seen) -> None:
        kept = bytearray()
        left = int(seen.value("content-length") or 0)
        while left:
            piece = reader.read1(min(left, 65536))
            if not piece:
                raise ValueError("the request's body ended early")
            left -= len(piece)
            seen.size += len(piece)
            kept += piece[: max(0, self.keep - len(kept))]
            self.on_piece(seen.size)
        seen.body = bytes(kept)


def read_reply(connection: socket.socket, method: str = "GET") -> Reply:
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    reply = Reply.read(response)
    response.close()
    return reply


Run = Callable[[Exchange], Coroutine[Any, Any, None]]


@dataclass
class PythonPlugin:
    """A plugin in this process: a function for each phase."""

    name: str
    runs: Mapping[str, Run]
    priority: int = 1000

    @property
    def phases(self) -> Collection[str]:
        return tuple(self.runs)

    async def run(self, exchange: Exchange, plugin: PluginConfig, phase: str) -> None:
        await self.runs[phase](exchange)


@dataclass
class Running:
    """A running gateway and the text of its two logs."""

    gateway: Gateway
    loop: Loop
    prefix: Path
    errors: io.StringIO
    plugins: list[PythonPlugin] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.gateway.addresses[0].port

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), DEADLINE)
        connection.settimeout(DEADLINE)
        return connection

    def send(self, raw: bytes, method: str = "GET") -> Reply:
        with self.connect() as connection:
            connection.sendall(raw)
            return read_reply(connection, method)

    def request(self, method: str, path: str, *headers: str, body: bytes = b"") -> Reply:
        names = [header.partition(":")[0].lower() for header in headers]
        lines = [f"{method} {path} HTTP/1.1", *headers]
        if "host" not in names:
            lines.append("Host: gateway.test")
        if body:
            lines.append(f"Content-Length: {len(body)}")
        raw = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")
        return self.send(raw + body, method)

    def use(self, *plugins: PythonPlugin) -> None:
        """Run these plugins globally instead of the configured ones."""
        configured = [PluginConfig(plugin.name, plugin.name, {}) for plugin in plugins]
        application = self.gateway._application
        assert application is not None
        application.generation.registry = Registry(configured, {plugin.name: plugin for plugin in plugins})

    @property
    def idle_connections(self) -> int:
        """The number of idle connections to upstreams."""
        return sum(len(each) for each in self.gateway._connections._idle.values())

    def access_log(self) -> str:
        return (self.prefix / "logs" / "access.log").read_text()


Serve = Callable[..., Running]


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture
def serve(tmp_path: Path, loop: Loop) -> Iterator[Serve]:
    """Start a gateway with a declarative configuration and more settings (``trusted_ips="..."``)."""
    started: list[Gateway] = []

    def start(configuration: str, **settings: str) -> Running:
        file = tmp_path / "kong.yml"
        file.write_text(configuration)
        errors = io.StringIO()
        environment = {
            "KONG_PREFIX": str(tmp_path / "prefix"),
            "KONG_DECLARATIVE_CONFIG": str(file),
            "KONG_PROXY_LISTEN": "127.0.0.1:0",
            "KONG_STATUS_LISTEN": "off",
            **{f"KONG_{name.upper()}": value for name, value in settings.items()},
        }
        gateway = Gateway(Settings.from_environment(environment), ErrorLog(Stream(errors), "debug"), environment={})
        loop.run(gateway.start())
        started.append(gateway)
        return Running(gateway, loop, tmp_path / "prefix", errors)

    yield start
    for gateway in started:
        loop.run(gateway.stop(grace=0))


@pytest.fixture
def simple(serve: Serve, upstream: Upstream) -> Running:
    """One service with one route for all requests."""
    return serve(
        f"""
_format_version: "3.0"
services:
- name: s
  url: http://127.0.0.1:{upstream.port}
  routes:
  - name: r
    paths: [/]
    strip_path: false
"""
    )
