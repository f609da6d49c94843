"""The results that the probe's handler got from its calls, and the expected ones: the recorded ``results``."""

from __future__ import annotations

import time
from ast import literal_eval
from pathlib import Path
from typing import Any, NamedTuple

from conformance.frames import PdkCall, Sent
from conformance.known_differences import other_result
from conformance.recordings import Case, functions_refused_in, stock_methods
from conformance.values import as_recorded_result, author_value, exact_twin, typed
from kong_pdk.wire.interface import EXTENDED, STOCK
from kong_pdk.wire.pdk_values.arguments import EXITS
from waiting import DEADLINE

VALUE, ENDED = "value", "ended by Kong"


class Result(NamedTuple):
    """What came of one order: a value with an error, the end of the handler, or the name of an exception.

    Of an expected error this is a part; of an exception any message will do.
    """

    phase: str
    number: int
    outcome: str
    value: Any = None
    error: str | None = None

    def is_as(self, expected: Result) -> bool:
        is_same = typed(self[:4]) == typed(expected[:4])
        if self.outcome == VALUE and self.error and expected.error:
            return is_same and expected.error in self.error
        return is_same and (self.outcome != VALUE or self.error == expected.error)


class Results:
    """The file into which the probe of one server writes."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open(encoding="ascii")
        self._rest = ""

    def of(self, case: Case, number: int) -> list[Result]:
        """Wait until this number of calls of a case is noted, and give all calls of the case."""
        deadline = time.monotonic() + DEADLINE
        found: list[Result] = []
        while True:
            *lines, self._rest = (self._rest + self._file.read()).split("\n")
            # Notes of other cases come from handlers that gave up waiting.
            found += [Result(*what) for id, *what in map(literal_eval, lines) if id == case.id]
            if len(found) >= number or time.monotonic() > deadline:
                return found
            time.sleep(0.001)

    def close(self) -> None:
        self._file.close()


def difference(case: Case, results: Results) -> str:
    """How the results of a case differ from the recorded ones; empty where they agree."""
    wanted, open_ended = _expected(case)
    noted = results.of(case, len(wanted))
    known = {each[:2] for each in wanted}
    closed = [each for each in noted if each.phase not in open_ended or each[:2] in known]
    if len(closed) == len(wanted) and all(map(Result.is_as, closed, wanted)):
        return ""
    ours, theirs = ("".join(f"\n  {each}" for each in found) for found in (noted, wanted))
    return f"{case.name}: the handler got {ours}\n\nbut the recorded one {theirs}"


def _expected(case: Case) -> tuple[list[Result], set[str]]:
    """The recorded ``results`` as an author gets them, and the phases in which more may follow: the recorded handler
    came no further."""
    found: list[Result] = []
    open_ended: set[str] = set()
    for event in case.events:
        results = case.results_of(event.phase)
        failed = case.failed_result(event.phase)
        for number in range(len(case.orders.get(event.phase, []))):
            if number == failed:
                return found, {later.phase for later in case.events[case.events.index(event) :]}
            call = event.pdk_calls[number + case.orders_come_first]
            recorded = results[number].get("value") if number < len(results) else None
            result = _result(case, event, number, call, recorded)
            found += [result] if result else []
            if call.refused:
                open_ended |= {event.phase} if result and result.outcome == VALUE else set()
                break
    return found, open_ended


def _result(case: Case, event: Sent, number: int, call: PdkCall, recorded: Any) -> Result | None:
    """Give the expected result of one order; None where the server waits for an answer that does not come."""
    better = other_result(case, event.phase, case.orders[event.phase][number][1], call, recorded)
    if better is not None:
        return Result(event.phase, number, VALUE, *better)
    if not call.refused:  # the recording server noted a value where it did not wait for one, too
        twin = exact_twin(event, call) if case.recording.extended else None
        value = author_value(case, call.method, as_recorded_result(twin) if twin else recorded)
        return Result(event.phase, number, VALUE, value)
    if call.function in functions_refused_in(event.phase, case.kind):
        return Result(event.phase, number, "PhaseError")
    if case.protocol == "ProtoBuf:1" and not case.recording.extended and call.function not in stock_methods():
        return Result(event.phase, number, "UnknownFunctionError")
    if case.protocol == "MsgPack:1" and call.function not in EXITS:
        return None  # nothing tells the server
    return Result(event.phase, number, VALUE if _is_not_waited_for(case, event, call) else ENDED)


def _is_not_waited_for(case: Case, event: Sent, call: PdkCall) -> bool:
    """Whether the server does not wait for a call of ProtoBuf:1, since it has no result; a refused one shows later."""
    if call.function in EXITS:
        return False
    method = (EXTENDED if case.recording.extended else STOCK).choose(call.function, event.phase)
    return method.output == "Empty" and method.name != "kong/client/authenticate"  # one that may be two calls
