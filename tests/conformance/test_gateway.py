"""The embedded gateway treats plugin servers, clients and services as a real Kong 3.9.3 does."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from conformance.comparable import UNRECORDED, Comparable
from conformance.frames import UNREADABLE, NoAnswer, PdkCall, Sent, Step
from conformance.known_differences import GATEWAY, judge
from conformance.probe_server import ProbeServer
from conformance.recordings import CERTIFICATE, FOLDER, HTTP, STREAM, Case, Recording, cases, node_id, recordings
from conformance.values import as_recorded_result, author_value, meaning
from kong_pdk.wire.interface import as_text
from local_servers import http_service, tcp_service
from running_gateway import RunningGateway, parse_response, recorded_upstream
from waiting import DEADLINE

UPSTREAM_PORT, A_PORT, B_PORT = 18090, 18091, 18092
"""The ports of the services behind the recordings."""


@dataclass(frozen=True)
class Setup:
    """A gateway with the probe behind it, set up as for a recording; ``ports`` maps recorded ports to this run's."""

    gateway: RunningGateway
    probe: ProbeServer
    ports: dict[int, int]

    @property
    def comparable(self) -> Comparable:
        return Comparable({ours: recorded for recorded, ours in self.ports.items()})


class Setups:
    """One setup for each recording and kind of case, made when the first case needs it."""

    def __init__(self, stack: ExitStack, folders: pytest.TempPathFactory) -> None:
        self._stack = stack
        self._folders = folders
        self._made: dict[tuple[str, str], Setup] = {}

    def of(self, case: Case) -> Setup:
        key = case.recording.name, case.kind
        if key not in self._made:
            make = {HTTP: self._make_http, STREAM: self._make_stream, CERTIFICATE: self._make_certificate}[case.kind]
            self._made[key] = make(case.recording)
        return self._made[key]

    def _make_http(self, recording: Recording) -> Setup:
        port = self._stack.enter_context(http_service(recorded_upstream))
        kong_yml = (FOLDER / "kong.yml").read_text().replace(str(UPSTREAM_PORT), str(port))
        setup = self._start(recording, HTTP, kong_yml, {UPSTREAM_PORT: port})
        setup.ports[8300] = setup.gateway.port
        return setup

    def _make_certificate(self, recording: Recording) -> Setup:
        port = self._stack.enter_context(http_service(recorded_upstream))
        kong_yml = globally_applied(port, '{"case": 0}')
        return self._start(recording, CERTIFICATE, kong_yml, {UPSTREAM_PORT: port}, KONG_PROXY_LISTEN="127.0.0.1:0 ssl")

    def _make_stream(self, recording: Recording) -> Setup:
        services = {port: self._stream_service(prefix) for port, prefix in ((A_PORT, b"A:"), (B_PORT, b"B:"))}
        ports = {case.id: self._reserved_port() for case in recording.of_kind(STREAM)}
        return self._start(
            recording,
            STREAM,
            with_ports((FOLDER / "kong-stream.yml").read_text("utf-8"), ports, services),
            {**ports, **services},
            KONG_PROXY_LISTEN="off",
            KONG_STREAM_LISTEN=", ".join(f"127.0.0.1:{port}" for port in ports.values()),
            KONG_PROXY_STREAM_ACCESS_LOG="off",
        )

    def _start(
        self, recording: Recording, kind: str, kong_yml: str, ports: dict[int, int], **environment: str
    ) -> Setup:
        prefix = self._folders.mktemp("kong")
        probe = ProbeServer(prefix / "probe.sock", recording, ports)
        self._stack.enter_context(probe.serving())
        (prefix / "dump.json").write_text(probe.dump(kind))
        (prefix / "kong.yml").write_text(kong_yml)
        (prefix / "pluginsocket.proto").write_text(as_text(recording.interface()))
        environment = {
            "KONG_DECLARATIVE_CONFIG": str(prefix / "kong.yml"),
            "KONG_PLUGINS": "bundled,probe",
            "KONG_PLUGINSERVER_NAMES": "probe",
            "KONG_PLUGINSERVER_PROBE_SOCKET": str(probe.path),
            "KONG_PLUGINSERVER_PROBE_QUERY_CMD": f"cat '{prefix}/dump.json'",
            "KONG_TRUSTED_IPS": "127.0.0.1",
            "KONG_NODE_ID": node_id(),
            **environment,
        }
        gateway = RunningGateway(prefix, environment, prefix / "pluginsocket.proto")
        return Setup(self._stack.enter_context(gateway), probe, ports)

    def _reserved_port(self) -> int:
        """Reserve a port: the gateway can listen on it, and no other process gets it."""
        reserved = self._stack.enter_context(closing(socket.socket()))
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        return int(reserved.getsockname()[1])

    def _stream_service(self, prefix: bytes) -> int:
        """Start a service that answers with ``prefix`` and the received bytes; give its port."""

        def answer(connection: socket.socket) -> None:
            while data := connection.recv(65536):
                connection.sendall(prefix + data)

        return self._stack.enter_context(tcp_service(answer))


def with_ports(stream_yml: str, ports: dict[int, int], services: dict[int, int]) -> str:
    """Give the recorded configuration of streams with this run's ports."""

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

    return json.dumps(here(yaml.safe_load(stream_yml)))


def globally_applied(port: int, note: str) -> str:
    """Give the configuration of one certificate case."""
    service = {"name": "echo", "url": f"http://127.0.0.1:{port}", "routes": [{"name": "all", "paths": ["/"]}]}
    plugin = {"name": "probe", "config": {"note": note}}
    return json.dumps({"_format_version": "3.0", "services": [service], "plugins": [plugin]})


@pytest.fixture(scope="module")
def setups(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setups]:
    with ExitStack() as stack:
        yield Setups(stack, tmp_path_factory)


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_case(case: Case, setups: Setups, request: pytest.FixtureRequest) -> None:
    """The plugin server, the client and the service receive from the gateway what they received from Kong."""
    play = {HTTP: play_http, STREAM: play_stream, CERTIFICATE: play_certificate}[case.kind]
    judge(case, GATEWAY, case.kind, lambda: play(case, setups.of(case)), request)


def play_http(case: Case, setup: Setup) -> None:
    setup.probe.play(case)
    raw = setup.gateway.send(case.raw_request())
    compare_calls(case, setup)
    if not case.reference_server_failed:
        compare_response(setup.comparable, raw, case.recorded["response"])


def play_stream(case: Case, setup: Setup) -> None:
    """The client sees the first bytes, or a refusal, possibly as soon as it connects."""
    try:
        with socket.create_connection(("127.0.0.1", setup.ports[case.id]), DEADLINE) as client:
            client.sendall(case.recorded["send"].encode())
            received = client.recv(65536).decode()
    except OSError as error:
        received = type(error).__name__
    assert received == case.recorded["received"]
    compare_calls(case, setup)


def play_certificate(case: Case, setup: Setup) -> None:
    """The client sees the status line or the handshake's failure."""
    note = json.dumps({"case": case.id, **case.orders})
    (setup.probe.path.parent / "kong.yml").write_text(globally_applied(setup.ports[UPSTREAM_PORT], note))
    setup.gateway.reload()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    name = case.recorded["tls_sni"]
    with socket.create_connection(("127.0.0.1", setup.gateway.port), DEADLINE) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=name) as client:
                client.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
                with client.makefile("rb") as response:
                    received = response.readline().decode().rstrip()
        except OSError as error:
            received = f"TLS handshake failed: {type(error).__name__}"
    assert received == case.recorded["received"]
    compare_calls(case, setup)


def compare_calls(case: Case, setup: Setup) -> None:
    """Compare Kong's answers to all calls, and the values that an author's handler would get from them."""
    comparable, events = setup.comparable, setup.probe.observed(case)
    for ours, theirs in zip(events, case.events, strict=False):
        for call, recorded in zip(ours.pdk_calls, theirs.pdk_calls, strict=False):
            if recorded.answer is UNREADABLE:
                assert case.reference_server_failed
                call.answer = UNREADABLE
    assert [answers(comparable, event) for event in events] == [answers(comparable, event) for event in case.events]
    if case.reference_server_failed:
        return
    for ours, theirs in zip(events, case.events, strict=True):
        first = case.orders_come_first
        made = zip(case.results_of(ours.phase), ours.pdk_calls[first:], theirs.pdk_calls[first:], strict=False)
        for result, call, recorded in made:
            assert result["method"] == call.method
            if not recorded.refused:  # the recording server noted a value where it did not wait for one, too
                values = (as_recorded_result(call), result["value"])
                got, wanted = (author_value(case, call.method, value) for value in values)
                assert comparable.result(call.function, got) == comparable.result(call.function, wanted)
    started = case.recording.start_of(case.events[0].instance, case) if case.events else None
    if started is not None and case.kind != HTTP:
        config = setup.probe.started[(events[0].instance or 0) - 1]
        assert configuration(setup, config) == configuration(setup, json.loads(started.call.config))


def answers(comparable: Comparable, event: Sent) -> Any:
    """Give the answers of an event in a shape that is the same in every run."""

    def answer(call: PdkCall) -> Any:
        said = meaning(call)
        said = said if isinstance(said, NoAnswer) else comparable.result(call.function, said)
        return (call.method, call.answer.method, said) if isinstance(call.answer, Step) else (call.method, said)

    return event.phase, [answer(call) for call in event.pdk_calls]


def configuration(setup: Setup, config: dict[str, Any]) -> Any:
    note = json.dumps(config["note"])
    for recorded, ours in setup.ports.items():
        note = note.replace(str(ours), str(recorded))
    return setup.comparable.value({**config, "note": note})


def compare_response(comparable: Comparable, raw: bytes, recorded: dict[str, Any]) -> None:
    status, headers, body = parse_response(raw)
    assert status == recorded["status"]
    assert comparable.body(body) == comparable.body(bytes.fromhex(recorded.get("body_hex") or ""))
    ours, theirs = (
        comparable.headers([[name, value] for name, value in each if name.lower() not in UNRECORDED])
        for each in (headers, recorded["headers"])
    )
    assert ours == theirs
    assert all(int(value) == len(body) for name, value in headers if name.lower() == "content-length")


FIRST_CASES = [recording.of_kind(HTTP)[0] for recording in recordings() if recording.of_kind(HTTP)]


@pytest.mark.parametrize(
    "case", [case for case in FIRST_CASES if case.recording.starts()], ids=lambda case: case.recording.name
)
def test_instance_gets_the_configuration_with_kongs_own_keys(case: Case, setups: Setups) -> None:
    """One instance serves all requests of a configuration; a new configuration starts another."""
    setup = setups.of(case)
    before = len(setup.probe.started)
    for generation in (0, 1):
        setup.gateway.reload()
        for _ in range(2):
            setup.probe.play(case)
            setup.gateway.send(case.raw_request())
            compare_calls(case, setup)
        assert len(setup.probe.started) == before + generation + 1
    recorded = setup.comparable.value(json.loads(case.recording.starts()[0].call.config))
    first, second = setup.probe.started[before:]
    assert [setup.comparable.value(config) for config in (first, second)] == [recorded, recorded]
    assert first["__seq__"] != second["__seq__"]
