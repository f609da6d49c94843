"""What the probe noted of its calls, and what it should have."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from conformance import codec, liberties
from conformance.author_values import author_value, noted_by_recorder
from conformance.frames import Event, PdkCall
from conformance.probe_plugin import ENDED, PHASE, UNKNOWN, VALUE, written
from conformance.recordings import FOLDER, STREAM, Case, stock_methods

DEADLINE = 20.0
_EXITS = ("kong.response.exit", "kong.response.error")


@dataclass
class Noted:
    """What came of one order: a value, a refusal, or the end of the handler."""

    phase: str
    number: int
    what: str
    value: Any = None
    error: str | None = None
    text: str = field(default="", compare=False)


class _Reason(str):
    """A part of an error that says the reason."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and str(self) in other


class Notes:
    """The file in which the probe of one server writes."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open(encoding="utf-8")
        self._rest = ""

    def of(self, case: Case, number: int) -> list[Noted]:
        """Wait until so many calls of a case are noted, and give all that are."""
        deadline = time.monotonic() + DEADLINE
        noted: list[Noted] = []
        while True:
            noted += self._new(case)
            if len(noted) >= number or time.monotonic() > deadline:
                return noted
            time.sleep(0.002)

    def close(self) -> None:
        self._file.close()

    def _new(self, case: Case) -> list[Noted]:
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        read = map(json.loads, lines)
        return [_noted(line) for line in read if line.pop("case") == case.id]  # others: handlers that gave up waiting


def _noted(line: dict[str, Any]) -> Noted:
    return Noted(**line)


@dataclass
class Expected:
    """What is to be noted of a case, and the phases of which more may be: the recorded handler came no further."""

    noted: list[Noted] = field(default_factory=list)
    open_ended: set[str] = field(default_factory=set)

    def differs(self, noted: list[Noted]) -> bool:
        """Whether something else was noted."""
        closed = [note for note in noted if note.phase not in self.open_ended or self._has(note)]
        return closed != self.noted

    def _has(self, note: Noted) -> bool:
        return any((note.phase, note.number) == (each.phase, each.number) for each in self.noted)


def expected(case: Case) -> Expected:
    """What the probe of a plugin server is to note: the recorded ``results`` as an author gets them."""
    found = Expected()
    for event in case.events:
        results = [result for result in case.results if result["phase"] == event.phase]
        failed = case.failed_result(event.phase)
        for number, order in enumerate(case.orders.get(event.phase, [])):
            if number == failed:
                found.open_ended = {later.phase for later in case.events[case.events.index(event) :]}
                return found
            made = _made(case, event, number, order, results[number] if number < len(results) else {})
            found.noted += made
            if case.call(event, number).refused:
                found.open_ended |= {event.phase} if made and made[0].what == VALUE else set()
                break
    return found


def _made(case: Case, event: Event, number: int, order: list[Any], result: dict[str, Any]) -> list[Noted]:
    """What is noted of one order; nothing where the server waits for an answer that does not come."""
    method, call = order[0], case.call(event, number)
    better = liberties.value(case, order, call, result.get("value"))
    if better is not None:
        value, reason = better
        return [Noted(event.phase, number, VALUE, written(value), reason and _Reason(reason))]
    if not call.refused:  # the recording server noted a value where it did not wait for one, too
        twin = codec.exact_twin(event, call) if case.recording.extended else None
        value = _exact(twin) if twin else result["value"]
        return [Noted(event.phase, number, VALUE, written(author_value(case, method, value)))]
    return _refused(case, event, number, method.replace("/", "."))


def _refused(case: Case, event: Event, number: int, function: str) -> list[Noted]:
    if function in refused_functions(event.phase, case.kind):
        return [Noted(event.phase, number, PHASE)]
    if case.protocol == "ProtoBuf:1" and not case.recording.extended and function not in stock_methods():
        return [Noted(event.phase, number, UNKNOWN)]
    if function in _EXITS or case.protocol == "ProtoBuf:1":
        return [Noted(event.phase, number, ENDED)]
    return []  # over MsgPack:1 nothing tells the server


def _exact(call: PdkCall) -> Any:
    return noted_by_recorder(codec.recorded_methods()[call.method], call.answer)


@cache
def refused_functions(phase: str, kind: str) -> frozenset[str]:
    """The functions that Kong was measured to refuse in a phase: by our own copy where the recordings have no table."""
    column = "log (stream)" if phase == "log" and kind == STREAM else phase
    measured = FOLDER / "pdk-phases.tsv"
    copy = resources.files("kong_pdk.wire").joinpath("phases.tsv")
    text = measured.read_text("utf-8") if measured.exists() else copy.read_text("utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return frozenset(row["function"] for row in rows if row.get(column) == "refused")
