"""The plugin server makes the PDK calls that the recorded one made, from what a real Kong 3.9.3 answered it.

A probe plugin takes its orders from the request's header, as the recorded one did. Where Kong refused a call for its
phase, ours does not leave the server: the handler sees a PhaseError and stops.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance.recordings import CLOSED, FILES, FOLDER, NOTHING, Case, PdkCall, Step, cases
from kong_pdk.wire import pdk
from kong_pdk.wire.interface import STOCK
from kong_pdk.wire.phases import allowed
from unit.server.fake_kong import REFUSED, FakeKong, MsgpackKong, ProtobufKong
from unit.server.served import MODES, serving

KONGS: dict[str, type[FakeKong]] = {"MsgPack:1": MsgpackKong, "ProtoBuf:1": ProtobufKong}
ALL = [case for protocol in FILES for case in cases(protocol)]

_HEADERS_KEPT = "a nil body would cost the headers behind it (MsgPack:1), so ours sends an empty string"
_NO_NAME = "get_header without a name raises in Python instead of asking Kong for the header ''"
ON_PURPOSE = {
    ("MsgPack:1", 399): _HEADERS_KEPT,
    ("MsgPack:1", 471): _HEADERS_KEPT,
    ("MsgPack:1", 674): "ours asks first whether the body is in a file, and does not let Kong refuse to read it",
    **dict.fromkeys([("ProtoBuf:1", id) for id in (444, 515, 516, 587)], _NO_NAME),
}
"""Where the calls differ from the recorded ones, and why."""

pytestmark = pytest.mark.skipif(not ALL, reason=f"no recordings in {FOLDER}; set KONG_RECORDINGS")


PLUGIN = f"""
import sys
sys.path.append({str(Path(__file__).parents[1])!r})
from conformance.probe_plugin import Probe as Plugin
"""


@pytest.fixture(scope="module", params=MODES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One server for all cases in each mode; gives its socket."""
    for serve in serving(tmp_path_factory.mktemp("server"), request.param):
        yield serve(PLUGIN).socket


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
        if (method, len(args)) == ("kong.request.get_body", 2) and not self._expects(method):
            return []  # ours asks whether nginx keeps the body in a file before it reads it over MsgPack:1
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
    return call.method, pdk.decode_arguments(STOCK.method(call.method), call.arguments)
