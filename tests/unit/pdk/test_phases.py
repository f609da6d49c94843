"""Every cell of the table of phases: the server sends a call only where Kong accepts it."""

from __future__ import annotations

import csv
import json
from importlib import resources
from typing import Any

import pytest
from conformance.recordings import FOLDER
from kong_pdk import PhaseError
from kong_pdk.pdk.kong.absent import REFUSED
from kong_pdk.protocol import PHASES
from kong_pdk.server.bridge import Bridge, CallSite, EventEnded
from kong_pdk.server.call_plan import CallPlan, Coding, Plans
from kong_pdk.wire.pdk_functions import METHODS

RECORDED = FOLDER / "pdk-phases.tsv"
TABLE = resources.files("kong_pdk.wire").joinpath("phases.tsv").read_text("utf-8")
ROWS = {row["function"]: row for row in csv.DictReader(TABLE.splitlines(), delimiter="\t")}
# A column, and its phase and subsystem.
COLUMNS = {
    "certificate": ("certificate", "http"),
    "rewrite": ("rewrite", "http"),
    "access": ("access", "http"),
    "response": ("response", "http"),
    "log": ("log", "http"),
    "preread": ("preread", "stream"),
    "log (stream)": ("log", "stream"),
}
SUBSYSTEM = "kong.nginx.get_subsystem"
CELLS = [(function, column, row[column]) for function, row in ROWS.items() for column in COLUMNS]
# An unmeasured cell of the stream's log has the value of a request's log.
NOT_MEASURED = [cell[:2] for cell in CELLS if not cell[2] and cell[1] != "log (stream)"]
WITHOUT_RESULT = frozenset(method.function for method in METHODS.values() if method.output == "Empty")


class Channel:
    """Records the calls that would be sent."""

    interrupted = False
    unanswered = None

    def __init__(self, phase: str, subsystem: str) -> None:
        self.phase = phase
        self.plans = Plans(self._plan)
        self.sent: list[str] = []
        self.asked = 0
        self._subsystem = subsystem

    def _plan(self, function: str) -> CallPlan:
        coding = Coding(
            encode=lambda args: json.dumps([function, *args]).encode(),
            encode_texts=lambda _: None,
            decode=lambda value: (value, None),
            has_result=function not in WITHOUT_RESULT,
        )
        return CallPlan(function, self.phase, coding)

    def call(self, plan: CallPlan, data: bytes) -> tuple[Any, str | None]:
        assert plan.has_result
        if json.loads(data) == [SUBSYSTEM]:
            self.asked += 1
            return plan.decode(self._subsystem)
        self.leave(data)
        return plan.decode("value")

    def queue(self, plan: CallPlan, data: bytes, site: CallSite) -> None:
        assert not plan.has_result
        self.leave(data)

    def leave(self, data: bytes) -> None:
        self.sent.append(json.loads(data)[0])

    def recover(self) -> None:
        raise AssertionError("nothing was interrupted")

    drop = recover


def _function(kong: Any, path: str) -> Any:
    for name in path.split(".")[1:]:
        kong = getattr(kong, name)
    return kong


def _call(bridge: Bridge, path: str) -> None:
    """Call a function, with an argument that tells the call from the bridge's own query."""
    try:
        _function(bridge.make_kong(), path)("argument")
    except EventEnded:
        assert path in ("kong.response.exit", "kong.response.error")


def _works(path: str, subsystem: str) -> tuple[str, ...]:
    row = {**ROWS[path], **({"log": ROWS[path]["log (stream)"]} if subsystem == "stream" else {})}
    return tuple(phase for phase in PHASES if row[phase] == "ok")


def test_the_table_has_the_measured_results():
    if not RECORDED.exists():
        pytest.skip(f"{RECORDED} is not there")
    assert RECORDED.read_text("utf-8") == TABLE


def test_the_table_has_the_columns_of_all_phases():
    assert set(next(iter(ROWS.values()))) == {"function", *COLUMNS}
    assert {phase for phase, _ in COLUMNS.values()} == set(PHASES)


@pytest.mark.parametrize("lua_style", [True, False], ids=["lua style", "plain"])
@pytest.mark.parametrize(("path", "column"), [cell[:2] for cell in CELLS if cell[2] == "ok"])
def test_a_call_that_kong_accepts_is_sent(path, column, lua_style):
    phase, subsystem = COLUMNS[column]
    channel = Channel(phase, subsystem)
    _call(Bridge(channel, lua_style), path)
    assert channel.sent == [path]


@pytest.mark.parametrize("lua_style", [True, False], ids=["lua style", "plain"])
@pytest.mark.parametrize(("path", "column"), [cell[:2] for cell in CELLS if cell[2] == "refused"])
def test_a_call_that_kong_refuses_is_not_sent(path, column, lua_style):
    phase, subsystem = COLUMNS[column]
    channel = Channel(phase, subsystem)
    with pytest.raises(PhaseError) as raised:
        _call(Bridge(channel, lua_style), path)
    assert channel.sent == []
    works = _works(path, "stream" if channel.asked and subsystem == "stream" else "http")
    assert (raised.value.method, raised.value.phase, raised.value.phases) == (path, phase, works)
    assert phase not in works
    allowed = f"it works in {', '.join(works)}" if works else "no phase of a plugin server can call it"
    allowed += f"; {REFUSED[path]}" if path in REFUSED else ""
    assert str(raised.value) == f"{path} cannot be called in the {phase} phase; {allowed}"


@pytest.mark.parametrize(("path", "column"), NOT_MEASURED)
def test_an_unmeasured_call_is_checked_by_kong(path, column):
    phase, subsystem = COLUMNS[column]
    channel = Channel(phase, subsystem)
    _call(Bridge(channel), path)
    assert channel.sent == [path]


def test_every_cell_is_tested():
    assert {cell[2] for cell in CELLS} == {"ok", "refused", ""}
    assert len(CELLS) == len(ROWS) * 7
