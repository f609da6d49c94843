"""How the stream and certificate cases are compared: the events of a case with Kong's answers, and its results."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from conformance.author_values import author_value, noted_by_recorder
from conformance.codec import NO_METHOD, meaning, recorded_methods
from conformance.differences import Comparable
from conformance.frames import NOTHING, UNREADABLE, PdkCall, Step
from conformance.note_probe import NoteProbe
from conformance.recordings import Case
from conformance.unix_server import DEADLINE

A_PORT, B_PORT = 18091, 18092
_EXIT = "kong.response.exit"
_CLOSED = "Kong closed the connection"


class NotedCases:
    """Compares cases with what came to a probe. ``ports`` maps this run's ports to the recorded ones."""

    def __init__(self, probe: NoteProbe, ports: dict[int, int]) -> None:
        self._probe = probe
        self._comparable = Comparable(ports)
        self._ports = ports

    def compare(self, case: Case) -> None:
        """The case's events, calls, answers and results, and the configuration that its instance was started with."""
        events = self._until_over(case)
        wanted = [(event.phase, event.calls) for event in case.events]
        for (_, made), (_, recorded) in zip(events, wanted, strict=False):
            for ours, theirs in zip(made, recorded, strict=False):
                ours.answer = UNREADABLE if theirs.answer is UNREADABLE else ours.answer
        assert [self._said(*event) for event in events] == [self._said(*event) for event in wanted]
        if not case.reference_server_failed:
            assert self._results(case, events) == self._recorded_results(case)
        started = case.recording.start_of(case.events[0].instance, case) if case.events else None
        instance = self._probe.of(case.id)
        if started is not None and instance is not None:
            assert self._config(instance.config) == self._config(json.loads(started.config))

    def _until_over(self, case: Case) -> list[tuple[str, list[PdkCall]]]:
        """Wait until the probe has had as many answers as the recording server."""
        end = time.monotonic() + DEADLINE
        while True:
            instance = self._probe.of(case.id)
            events = [] if instance is None else [(event.phase, list(event.made)) for event in instance.events]
            if self._counted(events) == self._counted([(event.phase, event.calls) for event in case.events]):
                return events
            if time.monotonic() > end:
                return events
            threading.Event().wait(0.005)

    @staticmethod
    def _counted(events: list[tuple[str, list[PdkCall]]]) -> list[tuple[str, int, int]]:
        return [(phase, len(calls), sum(call.refused for call in calls)) for phase, calls in events]

    def _said(self, phase: str, calls: list[PdkCall]) -> Any:
        return phase, [(call.method, self._answer(call)) for call in calls]

    def _answer(self, call: PdkCall) -> Any:
        function = call.method.replace("/", ".")
        if isinstance(call.answer, Step):
            data = call.answer.data
            return call.answer.method, "" if data is NOTHING else self._masked(function, data)
        if isinstance(call.answer, bytes):
            return self._masked(function, meaning(recorded_methods()[call.method], call.answer))
        return repr(call.answer)

    def _masked(self, function: str, value: Any) -> Any:
        return self._comparable.result(function, value)

    def _results(self, case: Case, events: list[tuple[str, list[PdkCall]]]) -> list[Any]:
        """What the recording server would have noted."""
        noted = [(phase, call.method, self._result(case, call)) for phase, calls in events for call in calls]
        return [each for each in noted if each[2] is not None]

    def _result(self, case: Case, call: PdkCall) -> Any:
        if call.method == _EXIT:
            return "exit"
        method = recorded_methods().get(call.method, NO_METHOD)
        if case.protocol == "ProtoBuf:1" and method.output == "Empty":
            return ("value", None)  # it did not wait for these
        if call.refused:
            return _CLOSED if case.protocol == "ProtoBuf:1" else None
        return self._author(case, call.method, noted_by_recorder(method, call.answer))

    def _recorded_results(self, case: Case) -> list[Any]:
        return [
            (
                result["phase"],
                result["method"],
                "exit"
                if result.get("exit")
                else result.get("error") or self._author(case, result["method"], result["value"]),
            )
            for result in case.results
        ]

    def _author(self, case: Case, method: str, value: Any) -> Any:
        function = method.replace("/", ".")
        return ("value", self._masked(function, author_value(case, method, value)))

    def _config(self, config: dict[str, Any]) -> Any:
        text = json.dumps(config["note"])
        for ours, recorded in self._ports.items():
            text = text.replace(str(ours), str(recorded))
        return self._comparable.value({**config, "note": text})
