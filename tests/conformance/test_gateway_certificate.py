"""The embedded gateway runs the certificate phase, and fails handshakes, as a real Kong 3.9.3 did."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from conformance import probed_gateway
from conformance.exceptions import GATEWAY
from conformance.note_probe import NOTE_PROBES
from conformance.noted_cases import NotedCases
from conformance.recordings import CERTIFICATE, Case, Recording, cases
from conformance.running_gateway import RunningGateway
from conformance.unix_server import DEADLINE
from conformance.upstream_server import Upstream
from conformance.verdict import judge


@dataclass(frozen=True)
class Setup:
    """A gateway that ends TLS; ``kong_yml`` is written anew for each case."""

    gateway: RunningGateway
    kong_yml: Path
    upstream_port: int
    noted: NotedCases

    def take(self, case: Case) -> None:
        """Apply the plugin globally, with the orders of this case."""
        self.kong_yml.write_text(configuration(self.upstream_port, json.dumps({"case": case.id, **case.orders})))
        self.gateway.reload()


def configuration(upstream_port: int, note: str) -> str:
    """One configuration a case, as the recordings were made."""
    return json.dumps(
        {
            "_format_version": "3.0",
            "services": [
                {
                    "name": "echo",
                    "url": f"http://127.0.0.1:{upstream_port}",
                    "routes": [{"name": "all", "paths": ["/"]}],
                }
            ],
            "plugins": [{"name": "probe", "config": {"note": note}}],
        }
    )


class Setups(probed_gateway.Setups[Setup]):
    """The gateways, by their recordings."""

    def _setup(self, recording: Recording, prefix: Path) -> Setup:
        upstream = self._stack.enter_context(Upstream())
        probe = self._stack.enter_context(NOTE_PROBES[recording.protocol](prefix / "probe.sock"))
        text = configuration(upstream.port, '{"case": 0}')
        gateway = self._gateway(recording, probe, text, KONG_PROXY_LISTEN="127.0.0.1:0 ssl")
        return Setup(gateway, prefix / "kong.yml", upstream.port, NotedCases(probe, {}))


@pytest.fixture(scope="module")
def setups(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setups]:
    with ExitStack() as stack:
        yield Setups(stack, tmp_path_factory)


@pytest.mark.parametrize("case", cases(CERTIFICATE), ids=lambda case: case.name)
def test_case(case: Case, setups: Setups, request: pytest.FixtureRequest) -> None:
    """The client's handshake ends as with Kong, the plugin server sees the same phases and the same answers."""
    judge(case, GATEWAY, "certificate", lambda: _play(case, setups.of(case.recording)), request)


def _play(case: Case, setup: Setup) -> None:
    setup.take(case)
    assert _received(setup.gateway.port, case.recorded["tls_sni"]) == case.recorded["received"]
    setup.noted.compare(case)


def _received(port: int, server_name: str) -> str:
    """What the client sees: the status line, or how the handshake failed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as plain:
        try:
            client = context.wrap_socket(plain, server_hostname=server_name)
        except OSError as error:
            return f"TLS handshake failed: {type(error).__name__}"
        with client:
            client.sendall(f"GET / HTTP/1.1\r\nHost: {server_name}\r\nConnection: close\r\n\r\n".encode())
            with client.makefile("rb") as response:
                return response.readline().decode().rstrip()
