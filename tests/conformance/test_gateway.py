"""The embedded gateway does to plugin servers, clients and services what a real Kong 3.9.3 did."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conformance import codec, probed_gateway
from conformance.author_values import author_value, noted_by_recorder
from conformance.differences import UNRECORDED, Comparable
from conformance.exceptions import GATEWAY
from conformance.probe_server import PROBES, RECORDED_UPSTREAM_PORT, Observed, ProbeServer
from conformance.recordings import (
    FOLDER,
    HTTP,
    NOTHING,
    UNREADABLE,
    Case,
    PdkCall,
    Recording,
    Step,
    cases,
    recordings,
)
from conformance.running_gateway import RunningGateway
from conformance.unix_server import DEADLINE
from conformance.upstream_server import Upstream
from conformance.verdict import judge


@dataclass(frozen=True)
class Setup:
    """A gateway with the probe plugin behind one protocol."""

    gateway: RunningGateway
    probe: ProbeServer
    comparable: Comparable


@pytest.fixture(scope="module")
def setups(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setups]:
    """One gateway for each recording, made when its first case needs it."""
    with ExitStack() as stack:
        yield Setups(stack, stack.enter_context(Upstream()).port, tmp_path_factory)


class Setups(probed_gateway.Setups[Setup]):
    """The gateways, by their recordings."""

    def __init__(self, stack: ExitStack, upstream_port: int, folders: pytest.TempPathFactory) -> None:
        super().__init__(stack, folders)
        self._upstream_port = upstream_port

    def _setup(self, recording: Recording, prefix: Path) -> Setup:
        probe = PROBES[recording.protocol](prefix / "probe.sock", self._upstream_port)
        probe.start()
        self._stack.callback(probe.stop)
        kong_yml = (FOLDER / "kong.yml").read_text().replace(str(RECORDED_UPSTREAM_PORT), str(self._upstream_port))
        gateway = self._gateway(recording, probe, kong_yml)
        return Setup(gateway, probe, Comparable({gateway.port: 8300, self._upstream_port: RECORDED_UPSTREAM_PORT}))


@pytest.mark.parametrize("case", cases(HTTP), ids=lambda case: case.name)
def test_case(case: Case, setups: Setups, request: pytest.FixtureRequest) -> None:
    """The plugin server sees what Kong's showed it, the client and the upstream get what they got from Kong."""
    judge(case, GATEWAY, "http", lambda: _play(case, setups.of(case.recording)), request)


def _play(case: Case, setup: Setup) -> None:
    observed = setup.probe.play(case)
    raw = setup.gateway.send(case.raw_request())
    assert observed.ended.wait(DEADLINE), "the log event did not end"
    _compare_calls(case, setup.comparable, observed)
    if not case.reference_server_failed:
        _compare_results(case, setup.comparable, observed)
        _compare_response(setup.comparable, raw, case.response)


def _first_cases() -> list[Case]:
    firsts = [recording.kind(HTTP)[0] for recording in recordings() if recording.kind(HTTP)]
    return [case for case in firsts if case.recording.starts]


@pytest.mark.parametrize("case", _first_cases(), ids=lambda case: case.recording.name)
def test_instance_gets_the_configuration_with_kongs_own_keys(case: Case, setups: Setups) -> None:
    """One instance serves all requests of a configuration; a new configuration starts another."""
    setup = setups.of(case.recording)
    before = len(setup.probe.started)
    for generation in (0, 1):
        setup.gateway.reload()
        for _ in range(2):
            observed = setup.probe.play(case)
            setup.gateway.send(case.raw_request())
            assert observed.ended.wait(DEADLINE)
        assert len(setup.probe.started) == before + generation + 1
    recorded = setup.comparable.value(_started(case.recording))
    first, second = setup.probe.started[before:]
    assert [setup.comparable.value(config) for config in (first, second)] == [recorded, recorded]
    assert first["__seq__"] != second["__seq__"]


def _started(recording: Recording) -> dict[str, Any]:
    """The configuration that Kong gave to StartInstance."""
    configuration: dict[str, Any] = json.loads(recording.starts[0].config)
    return configuration


def _compare_calls(case: Case, comparable: Comparable, observed: Observed) -> None:
    """Kong's answers to all calls, those to the probe's own question among them."""
    wanted = [(event.phase, [(call.method, _said(comparable, call)) for call in event.calls]) for event in case.events]
    unreadable = [call.answer is UNREADABLE for event in case.events for call in event.calls]
    for (_, calls), event in zip(observed.events, case.events, strict=False):
        for call, recorded in zip(calls, event.calls, strict=False):
            call.answer = UNREADABLE if recorded.answer is UNREADABLE else call.answer
    assert any(unreadable) <= case.reference_server_failed
    assert [
        (phase, [(call.method, _said(comparable, call)) for call in calls]) for phase, calls in observed.events
    ] == wanted


def _compare_results(case: Case, comparable: Comparable, observed: Observed) -> None:
    """The recorded results, as an author's handler would get the gateway's answers."""
    made = dict(observed.events)
    for event in case.events:
        results = [result for result in case.results if result["phase"] == event.phase]
        for result, call, recorded in zip(results, made[event.phase][1:], event.calls[1:], strict=False):
            assert result["method"] == call.method
            if recorded.refused:  # the recording server noted a value where it did not wait for one, too
                continue
            method = codec.recorded_methods().get(call.method, codec.NO_METHOD)
            ours = author_value(case, call.method, noted_by_recorder(method, call.answer))
            theirs = author_value(case, call.method, result["value"])
            function = call.method.replace("/", ".")
            assert comparable.result(function, ours) == comparable.result(function, theirs)


def _said(comparable: Comparable, call: PdkCall) -> Any:
    """An answer in a shape that is the same in every run."""
    if isinstance(call.answer, Step):
        data = repr(NOTHING) if call.answer.data is NOTHING else comparable.result(call.method, call.answer.data)
        return call.answer.method, data
    if not isinstance(call.answer, bytes):
        return repr(call.answer)
    method = codec.recorded_methods()[call.method]
    return comparable.result(method.function, codec.meaning(method, call.answer))


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
