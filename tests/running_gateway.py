"""The embedded gateway in a thread of its own."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import socket
import threading
from dataclasses import replace
from pathlib import Path

from kong_pdk.gateway.gateway import Gateway
from kong_pdk.gateway.gateway_settings import Settings
from local_servers import Answer, Request
from waiting import DEADLINE


class RunningGateway:
    """A gateway with the settings of ``environment``, listening on a free port of 127.0.0.1."""

    def __init__(self, prefix: Path, environment: dict[str, str], interface_file: Path | None = None) -> None:
        """:param interface_file: what ProtoBuf:1 reaches; None for that of an unmodified Kong."""
        self._interface_file = interface_file
        self.log = prefix / "error.log"
        self._environment = {
            "KONG_PREFIX": str(prefix),
            "KONG_PROXY_LISTEN": "127.0.0.1:0",
            "KONG_STATUS_LISTEN": "off",
            "KONG_PROXY_ACCESS_LOG": "off",
            "KONG_PROXY_ERROR_LOG": str(self.log),
            "KONG_LOG_LEVEL": "debug",
            **environment,
        }
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._gateway = Gateway(self._settings())

    @property
    def port(self) -> int:
        return self._gateway.addresses[0].port

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens, for HTTP and TLS and then for streams."""
        found = [*self._gateway.addresses, *self._gateway.stream_addresses]
        return [("127.0.0.1", address.port) for address in found]

    def __enter__(self) -> RunningGateway:
        self._thread.start()
        try:
            self._run(self._gateway.start())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._run(self._gateway.stop(grace=0))
        finally:
            self._end()

    def reload(self, **environment: str) -> None:
        """Take new settings."""
        self._environment.update(environment)
        self._run(self._gateway.reload(self._settings()))

    def send(self, request: bytes) -> bytes:
        """Send a request with ``connection: close`` and give the raw response."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE) as connection:
            connection.sendall(request)
            received = bytearray()
            while data := connection.recv(65536):
                received += data
            return bytes(received)

    def _settings(self) -> Settings:
        settings = Settings.from_environment(self._environment)
        return replace(settings, interface_file=self._interface_file) if self._interface_file else settings

    def _run(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE)  # type: ignore[arg-type]

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()


def parse_response(raw: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body of a raw response."""

    class Received:
        def makefile(self, mode: str) -> io.BytesIO:
            return io.BytesIO(raw)

    response = http.client.HTTPResponse(Received())  # type: ignore[arg-type]
    response.begin()
    return response.status, response.getheaders(), response.read()


def recorded_upstream(request: Request) -> Answer:
    """Answer as the service behind the recordings: with what it was sent."""
    headers = [[name.lower(), value] for name, value in request.headers]
    received = {"method": request.method, "path": request.path, "headers": headers, "body_hex": request.body.hex()}
    return Answer(
        int(request.value("x-upstream-status") or 200),
        (("Content-Type", "application/json"), ("X-Multi", "one"), ("X-Multi", "two"), ("X-Up", "yes")),
        json.dumps(received).encode(),
    )
