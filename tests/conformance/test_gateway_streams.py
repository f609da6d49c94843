"""The embedded gateway does to TCP streams, and to plugins of the stream subsystem, what a real Kong 3.9.3 did."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conformance import probed_gateway
from conformance.exceptions import GATEWAY
from conformance.note_probe import NOTE_PROBES
from conformance.noted_cases import A_PORT, B_PORT, NotedCases
from conformance.recordings import FOLDER, STREAM, Case, Recording, cases
from conformance.running_gateway import RunningGateway
from conformance.unix_server import DEADLINE
from conformance.verdict import judge


@dataclass(frozen=True)
class Setup:
    """A gateway with a listener for each case of a recording."""

    gateway: RunningGateway
    ports: dict[int, int]
    noted: NotedCases


class Setups(probed_gateway.Setups[Setup]):
    """The gateways, by their recordings."""

    def _setup(self, recording: Recording, prefix: Path) -> Setup:
        services = {A_PORT: answering(self._stack, b"A:"), B_PORT: answering(self._stack, b"B:")}
        ports = {case.id: free_port(self._stack) for case in recording.kind(STREAM)}
        probe = self._stack.enter_context(NOTE_PROBES[recording.protocol](prefix / "probe.sock"))
        gateway = self._gateway(
            recording,
            probe,
            configuration(ports, services),
            KONG_PROXY_LISTEN="off",
            KONG_STREAM_LISTEN=", ".join(f"127.0.0.1:{port}" for port in ports.values()),
            KONG_PROXY_STREAM_ACCESS_LOG="off",
        )
        return Setup(
            gateway, ports, NotedCases(probe, {ours: recorded for recorded, ours in {**ports, **services}.items()})
        )


def configuration(ports: dict[int, int], services: dict[int, int]) -> str:
    """The recorded configuration, with this run's ports in it."""

    def here(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: here(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [here(item) for item in value]
        if name == "port":
            return {**ports, **services}.get(value, value)
        if isinstance(value, str):
            return re.sub(r"\b\d+\b", lambda found: str(services.get(int(found[0]), found[0])), value)
        return value

    return json.dumps(here(yaml.safe_load((FOLDER / "kong-stream.yml").read_text("utf-8"))))


def free_port(stack: ExitStack) -> int:
    """A port that is ours: the gateway can listen on it, and nobody else is given it."""
    reserved = stack.enter_context(closing(socket.socket()))
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    port: int = reserved.getsockname()[1]
    return port


def answering(stack: ExitStack, prefix: bytes) -> int:
    """A service that answers with ``prefix`` and what it got; its port."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(DEADLINE)
                while data := connection.recv(65536):
                    connection.sendall(prefix + data)

    thread = threading.Thread(target=serve)
    thread.start()
    stack.callback(thread.join, DEADLINE)
    stack.callback(listener.shutdown, socket.SHUT_RDWR)
    port: int = listener.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def setups(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setups]:
    with ExitStack() as stack:
        yield Setups(stack, tmp_path_factory)


@pytest.mark.parametrize("case", cases(STREAM), ids=lambda case: case.name)
def test_case(case: Case, setups: Setups, request: pytest.FixtureRequest) -> None:
    """The client gets what it got from Kong, the plugin server sees the same phases and the same answers."""
    judge(case, GATEWAY, "streams", lambda: _play(case, setups.of(case.recording)), request)


def _play(case: Case, setup: Setup) -> None:
    assert _received(setup.ports[case.id], case.recorded["send"].encode()) == case.recorded["received"]
    setup.noted.compare(case)


def _received(port: int, sent: bytes) -> str:
    """What the client sees: what comes first, or how it was refused, which may be as soon as it connects."""
    try:
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
            client.settimeout(DEADLINE)
            client.sendall(sent)
            return client.recv(65536).decode()
    except OSError as error:
        return type(error).__name__
