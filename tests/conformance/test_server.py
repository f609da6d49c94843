"""The plugin server makes the PDK calls that the recorded one made, from what a real Kong 3.9.3 answered it.

A probe plugin takes its orders from the request's header, as the recorded one did. Where Kong refused a call for its
phase, ours does not leave the server: the handler sees a PhaseError and stops.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance.recordings import CLOSED, FILES, FOLDER, NOTHING, Case, PdkCall, Step, cases
from kong_pdk import PhaseError
from kong_pdk.plugin import Plugin
from kong_pdk.server.listener import Listener
from kong_pdk.server.server import Server
from kong_pdk.wire import pdk
from kong_pdk.wire.errors import ArgumentError
from kong_pdk.wire.phases import allowed
from unit.server.fake_kong import DEADLINE, REFUSED, FakeKong, MsgpackKong, ProtobufKong

KONGS: dict[str, type[FakeKong]] = {"MsgPack:1": MsgpackKong, "ProtoBuf:1": ProtobufKong}
ALL = [case for protocol in FILES for case in cases(protocol)]

_HEADERS_KEPT = "a nil body would cost the headers behind it (MsgPack:1), so ours sends an empty string"
_NO_NAME = "get_header without a name raises in Python instead of asking Kong for the header ''"
ON_PURPOSE = {
    ("MsgPack:1", 399): _HEADERS_KEPT,
    ("MsgPack:1", 471): _HEADERS_KEPT,
    **dict.fromkeys([("ProtoBuf:1", id) for id in (444, 515, 516, 587)], _NO_NAME),
}
"""Where the calls differ from the recorded ones, and why."""

pytestmark = pytest.mark.skipif(not ALL, reason=f"no recordings in {FOLDER}; set KONG_RECORDINGS")


class Probe:
    """Makes the calls that the header x-probe orders for a phase."""

    def __init__(self, config: dict[str, Any]) -> None:
        pass

    def _run(self, kong: Any, phase: str) -> None:
        header, _ = kong.request.get_header("x-probe")
        for method, args in json.loads(header or "{}").get(phase, []):
            function = kong
            for name in method.split(".")[1:]:
                function = getattr(function, name)
            try:
                function(*(_plain(arg) for arg in args))
            except (PhaseError, ArgumentError):
                return

    def rewrite(self, kong: Any) -> None:
        self._run(kong, "rewrite")

    def access(self, kong: Any) -> None:
        self._run(kong, "access")

    def response(self, kong: Any) -> None:
        self._run(kong, "response")

    def log(self, kong: Any) -> None:
        self._run(kong, "log")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One server for all cases; gives its socket."""
    path = tmp_path_factory.mktemp("server") / "probe.sock"
    plugin = Plugin("probe", Path(__file__), Probe, "1.0.0", 500, ("rewrite", "access", "response", "log"), ())
    listener = Listener(path)
    listener.publish()
    running = Server([plugin], [listener.socket])
    thread = threading.Thread(target=running.run)
    thread.start()
    yield path
    running.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return (
            bytes.fromhex(value["$bytes"]) if "$bytes" in value else {key: _plain(each) for key, each in value.items()}
        )
    return [_plain(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", ALL, ids=lambda case: f"{case.protocol[:-2].lower()}-{case.label}")
def test_case(case: Case, server: Path) -> None:
    """Each event of a case brings the same calls, up to the first that Kong refused."""
    if (case.protocol, case.id) in ON_PURPOSE:
        pytest.skip(ON_PURPOSE[case.protocol, case.id])
    for phase, recorded in case.events:
        kong = KONGS[case.protocol](server)
        script = Script(recorded)
        kong.answer = script.answer  # type: ignore[method-assign]
        kong.event(kong.start("probe"), phase)
        kong.close()
        expected = [_recorded(case.protocol, call) for call in _sent(phase, recorded)]
        if case.reference_server_failed:  # what it could not send, ours does not send either
            assert script.made in (expected, expected[: len(script.made)])
        else:
            assert script.made == expected


class Script:
    """Answers the calls of an event as Kong did, one after another."""

    def __init__(self, recorded: list[PdkCall]) -> None:
        self._recorded = iter(recorded)
        self.made: list[tuple[str, list[Any]]] = []

    def answer(self, method: str, args: list[Any], _: Any) -> Any:
        """Give the answer; REFUSED where there was none."""
        if method == "kong.nginx.get_subsystem" and not args and not self._expects(method):
            return "http"  # ours asks whose log this is before a call that one of them refuses
        self.made.append((method, args))
        call = next(self._recorded, None)
        assert call is not None, f"{method} was not called in the recording"
        if call.answer is NOTHING or call.answer is CLOSED:
            return REFUSED
        if isinstance(call.answer, Step):
            return None if call.answer.data is NOTHING else call.answer.data
        return {} if method != call.method else call.answer

    def _expects(self, method: str) -> bool:
        call = next(self._recorded, None)
        if call is not None:
            self._recorded = itertools.chain([call], self._recorded)
        return call is not None and call.method == method


def _sent(phase: str, recorded: list[PdkCall]) -> Iterator[PdkCall]:
    """The recorded calls that leave our server too."""
    for call in recorded:
        if allowed(call.method, phase) is False:
            return
        yield call
        if call.answer is NOTHING or call.answer is CLOSED:
            return


def _recorded(protocol: str, call: PdkCall) -> tuple[str, list[Any]]:
    if protocol == "MsgPack:1":
        return call.method, call.arguments
    if call.method == "kong.request.get_query_arg":  # see PROTOCOL.md: any client could make Kong raise
        return "kong.request.get_query", [100]
    return call.method, pdk.decode_arguments(call.method, call.arguments)
