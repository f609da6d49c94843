"""The results that the probe's handler got from its calls, and the expected ones: the recorded ``results``."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.author_values import author_value
from conformance.deviations import other_result
from conformance.frames import PdkCall, Sent
from conformance.messages_of_calls import as_recorded_result, exact_twin
from conformance.probe_plugin import ENDED, PHASE, UNKNOWN, VALUE, typed
from conformance.recordings import Case, functions_refused_in, stock_methods
from fake_kong import DEADLINE

_EXITS = ("kong.response.exit", "kong.response.error")


@dataclass
class Result:
    """The result of one order: a value, a refusal, or the end of the handler."""

    phase: str
    number: int
    what: str
    value: Any = None
    error: str | None = None
    text: str = field(default="", compare=False)


class _PartOfError(str):
    """Equals each error that contains this text."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and str(self) in other


class Results:
    """The file into which the probe of one server writes."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open(encoding="utf-8")
        self._rest = ""

    def of(self, case: Case, number: int) -> list[Result]:
        """Wait until this number of calls of a case is noted, and give all calls of the case."""
        deadline = time.monotonic() + DEADLINE
        found: list[Result] = []
        while True:
            *lines, self._rest = (self._rest + self._file.read()).split("\n")
            # Notes of other cases come from handlers that gave up waiting.
            found += [Result(**line) for line in map(json.loads, lines) if line.pop("case") == case.id]
            if len(found) >= number or time.monotonic() > deadline:
                return found
            time.sleep(0.001)

    def close(self) -> None:
        self._file.close()


@dataclass
class Expected:
    """The expected results of a case, and the phases that may have more: the recorded handler stopped earlier."""

    noted: list[Result] = field(default_factory=list)
    open_ended: set[str] = field(default_factory=set)

    def differs(self, noted: list[Result]) -> bool:
        known = {(each.phase, each.number) for each in self.noted}
        closed = [each for each in noted if each.phase not in self.open_ended or (each.phase, each.number) in known]
        return closed != self.noted


def expected(case: Case) -> Expected:
    """Give the results that the probe of a plugin server must note: the recorded ``results`` as an author gets them."""
    found = Expected()
    for event in case.events:
        results = case.results_of(event.phase)
        failed = case.failed_result(event.phase)
        for number in range(len(case.orders.get(event.phase, []))):
            if number == failed:
                found.open_ended = {later.phase for later in case.events[case.events.index(event) :]}
                return found
            call = event.pdk_calls[number + case.orders_come_first]
            recorded = results[number].get("value") if number < len(results) else None
            noted = _result(case, event, number, call, recorded)
            found.noted += [noted] if noted else []
            if call.refused:
                found.open_ended |= {event.phase} if noted and noted.what == VALUE else set()
                break
    return found


def _result(case: Case, event: Sent, number: int, call: PdkCall, recorded: Any) -> Result | None:
    """Give the expected result of one order; None where the server waits for an answer that does not come."""
    better = other_result(case, case.orders[event.phase][number][1], call, recorded)
    if better is not None:
        value, reason = better
        return Result(event.phase, number, VALUE, typed(value), reason and _PartOfError(reason))
    if not call.refused:  # The recording server also noted a value for calls whose answer it did not wait for.
        twin = exact_twin(event, call) if case.recording.extended else None
        value = author_value(case, call.method, as_recorded_result(twin) if twin else recorded)
        return Result(event.phase, number, VALUE, typed(value))
    if call.function in functions_refused_in(event.phase, case.kind):
        return Result(event.phase, number, PHASE)
    if case.protocol == "ProtoBuf:1" and not case.recording.extended and call.function not in stock_methods():
        return Result(event.phase, number, UNKNOWN)
    if call.function in _EXITS or case.protocol == "ProtoBuf:1":
        return Result(event.phase, number, ENDED)
    return None  # Over MsgPack:1 nothing tells the server that the call failed.
