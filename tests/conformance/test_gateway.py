"""The embedded gateway does to plugin servers, clients and services what a real Kong 3.9.3 did.

Left out as a whole: ``protobuf-extended.jsonl`` (the gateway has the stock interface file) and
``stream-and-certificate-*.jsonl`` (it proxies HTTP alone).
"""

from __future__ import annotations

import http.client
import io
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conformance.differences import Comparable
from conformance.probe_server import DEADLINE, PROBES, RECORDED_UPSTREAM_PORT, ProbeServer
from conformance.recordings import CLOSED, FOLDER, NOTHING, Case, Step, cases, started_configuration
from conformance.running_gateway import RunningGateway
from conformance.upstream_server import Upstream

NODE_ID = "3bbb2a3e-0000-4000-8000-00000000dada"
# The recordings leave these out.
UNRECORDED = {
    "date",
    "server",
    "via",
    "connection",
    "transfer-encoding",
    "keep-alive",
    "x-kong-request-id",
    "x-kong-proxy-latency",
    "x-kong-upstream-latency",
    "x-kong-response-latency",
}
ALL = [case for protocol in PROBES for case in cases(protocol)]

pytestmark = pytest.mark.skipif(not ALL, reason=f"no recordings in {FOLDER}; set KONG_RECORDINGS")


@dataclass(frozen=True)
class Setup:
    """A gateway with the probe plugin behind one protocol."""

    gateway: RunningGateway
    probe: ProbeServer
    comparable: Comparable


@pytest.fixture(scope="module")
def setups(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Setup]]:
    """One gateway for each protocol, made when the first case needs it."""
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream())
        yield {protocol: _setup(stack, protocol, tmp_path_factory.mktemp("kong"), upstream.port) for protocol in PROBES}


def _setup(stack: ExitStack, protocol: str, prefix: Path, upstream_port: int) -> Setup:
    probe = PROBES[protocol](prefix / "probe.sock", upstream_port)
    probe.start()
    stack.callback(probe.stop)
    (prefix / "dump.json").write_text(probe.dump())
    kong_yml = (FOLDER / "kong.yml").read_text().replace(str(RECORDED_UPSTREAM_PORT), str(upstream_port))
    (prefix / "kong.yml").write_text(kong_yml)
    environment = {
        "KONG_DECLARATIVE_CONFIG": str(prefix / "kong.yml"),
        "KONG_PLUGINS": "bundled,probe",
        "KONG_PLUGINSERVER_NAMES": "probe",
        "KONG_PLUGINSERVER_PROBE_SOCKET": str(probe.path),
        "KONG_PLUGINSERVER_PROBE_QUERY_CMD": f"cat '{prefix}/dump.json'",
        "KONG_TRUSTED_IPS": "127.0.0.1",
        "KONG_NODE_ID": NODE_ID,
    }
    gateway = stack.enter_context(RunningGateway(prefix, environment))
    return Setup(gateway, probe, Comparable({gateway.port: 8300, upstream_port: RECORDED_UPSTREAM_PORT}))


def _id(case: Case) -> str:
    return f"{case.protocol[:-2].lower()}-{case.label}"


@pytest.mark.parametrize("case", ALL, ids=_id)
def test_case(case: Case, setups: dict[str, Setup]) -> None:
    """The plugin server sees what Kong's showed it, the client and the upstream get what they got from Kong."""
    setup = setups[case.protocol]
    observed = setup.probe.play(case)
    raw = setup.gateway.send(case.raw_request())
    assert observed.ended.wait(DEADLINE), "the log event did not end"
    assert _events(setup, observed.events) == _events(setup, case.events)
    if not case.reference_server_failed:
        _compare_response(setup.comparable, raw, case.response)


@pytest.mark.parametrize("protocol", PROBES)
def test_instance_gets_the_configuration_with_kongs_own_keys(protocol: str, setups: dict[str, Setup]) -> None:
    """One instance serves all requests of a configuration; a new configuration starts another."""
    setup, case = setups[protocol], next(case for case in ALL if case.protocol == protocol)
    for generation in (1, 2):
        for _ in range(2):
            observed = setup.probe.play(case)
            setup.gateway.send(case.raw_request())
            assert observed.ended.wait(DEADLINE)
        assert len(setup.probe.started) == generation
        setup.gateway.reload()
    recorded = setup.comparable.value(started_configuration())
    assert [setup.comparable.value(config) for config in setup.probe.started] == [recorded, recorded]
    assert setup.probe.started[0]["__seq__"] != setup.probe.started[1]["__seq__"]


def _events(setup: Setup, events: list[tuple[str, list[Any]]]) -> list[Any]:
    return [
        (phase, [(call.method, _answer(setup.comparable, call.method, call.answer)) for call in made])
        for phase, made in events
    ]


def _answer(comparable: Comparable, method: str, answer: Any) -> Any:
    if answer is NOTHING or answer is CLOSED:
        return repr(answer)
    if isinstance(answer, Step):
        data = repr(NOTHING) if answer.data is NOTHING else comparable.result(method, answer.data)
        return answer.method, data
    return comparable.result(method, answer)


def _compare_response(comparable: Comparable, raw: bytes, recorded: dict[str, Any]) -> None:
    response = _Response(raw)
    body = bytes.fromhex(recorded.get("body_hex") or "")
    assert response.status == recorded["status"]
    assert comparable.body(response.body) == comparable.body(body)
    assert _headers(comparable, response.headers) == _headers(comparable, recorded["headers"])
    for length in response.lengths:
        assert length == len(response.body)


def _headers(comparable: Comparable, headers: list[list[str]]) -> list[tuple[str, str]]:
    return comparable.headers([[name, value] for name, value in headers if name.lower() not in UNRECORDED])


class _Response:
    def __init__(self, raw: bytes) -> None:
        parsed = http.client.HTTPResponse(_Socket(raw))  # type: ignore[arg-type]
        parsed.begin()
        self.status = parsed.status
        self.headers = [[name, value] for name, value in parsed.getheaders()]
        self.lengths = [int(value) for name, value in self.headers if name.lower() == "content-length"]
        self.body = parsed.read()


class _Socket:
    """What http.client needs of a socket to read a response that is already here."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._raw)
