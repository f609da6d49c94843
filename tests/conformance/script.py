"""What Kong says in one event: the recorded answers, one after another, to the calls that our server makes."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from conformance import codec, liberties
from conformance.frames import CLOSED, UNREADABLE, Event, PdkCall, Step
from conformance.probe_plugin import written
from conformance.recordings import HTTP, Case
from kong_pdk.wire import pdk
from kong_pdk.wire.methods import METHODS
from kong_pdk.wire.msgpack import step_method


class Difference(AssertionError):
    """Our server did something else than the recorded one."""


class Script:
    """The answers to the calls of one event. ``cut`` is set where the recording is of no use from there on."""

    def __init__(self, case: Case, event: Event, folder: Path) -> None:
        """:param folder: where a large body may be put for our server to read."""
        self._case = case
        self._folder = folder
        self._event = event
        self._recorded = deque(event.calls)
        self._failed = _failed_call(case, event)
        self._made = 0
        self.cut = False

    def over_msgpack(self, method: str, args: list[Any]) -> Any:
        """Kong's answer to a call: a Step, or NOTHING."""
        recorded = self._recorded[0] if self._recorded else None
        if recorded is not None and method == recorded.method and written(args) == written(recorded.arguments):
            return self._recorded.popleft().answer
        liberty = liberties.taken(self._case, self._event.phase, method, args, recorded)
        if liberty is None:
            raise Difference(f"{self._where()}: {method}{tuple(args)} was called, {_said(recorded)} was recorded")
        if liberty.instead:
            self._recorded.popleft()
        return Step(step_method(method), liberty.answer, self._event.conn)

    def over_protobuf(self, name: str, payload: bytes) -> Any:
        """Kong's answer to a call: the bytes of a message, or CLOSED."""
        if self._made == self._failed:
            self.cut = True
            return CLOSED
        recorded = self._recorded[0] if self._recorded else None
        ours = METHODS.get(name)
        if ours is None:
            raise Difference(f"{self._where()}: {name} is no method of Kong's interface file or our extension")
        args = codec.arguments(ours, payload)
        if recorded is not None and ours.function == recorded.method.replace("/", "."):
            return self._same_function(ours, args, recorded)
        liberty = liberties.taken(self._case, self._event.phase, ours.function, args, recorded)
        if liberty is None:
            raise Difference(f"{self._where()}: {name}{tuple(args)} was called, {_said(recorded)} was recorded")
        if liberty.instead:
            self._recorded.popleft()
            self._made += 1
        return pdk.encode_result(ours, liberty.answer)

    def _same_function(self, ours: pdk.Method, args: list[Any], recorded: PdkCall) -> Any:
        theirs = codec.recorded_methods()[recorded.method]
        wanted = codec.arguments(theirs, recorded.arguments)
        if written(args) != written(wanted):
            raise Difference(f"{self._where()}: {ours.name} was called with {args}, recorded were {wanted}")
        self._recorded.popleft()
        self._made += 1
        if recorded.answer is CLOSED:
            return CLOSED
        if recorded.answer is UNREADABLE:
            self.cut = True
            return CLOSED
        known = codec.exact_twin(self._event, recorded) or recorded
        answer = codec.convert(known.answer, codec.recorded_methods()[known.method], ours)
        return self._spooled(ours, answer) if ours.output == "RawBodyResult" else answer

    def _spooled(self, ours: pdk.Method, answer: bytes) -> bytes:
        """The path of a large body is that of a file that is there."""
        if pdk.decode_result(ours, answer).path is None:
            return answer
        file = self._folder / "body"
        file.write_bytes(self._case.body)
        return pdk.encode_result(ours, pdk.RawBody(path=str(file)))

    def end(self) -> None:
        """The handler came to its end.

        :raises Difference: it should have made more calls. A call that Kong refused may be missing: the probe notes
            that it was refused before it was sent.
        """
        if self._made == self._failed:
            self.cut = True
        elif self._recorded and not self._recorded[0].refused:
            raise Difference(f"{self._where()}: the handler ended, {_said(self._recorded[0])} was recorded")

    def _where(self) -> str:
        return f"{self._case.name}, {self._event.phase}"


def _failed_call(case: Case, event: Event) -> int | None:
    """How many calls were made in an event before the one that the recording server could not send."""
    number = case.failed_result(event.phase)
    if number is None or any(call.answer is UNREADABLE for call in event.calls):
        return None
    return number + (case.kind == HTTP)  # there the probe asks for its orders first


def _said(call: PdkCall | None) -> str:
    if call is None:
        return "no call"
    if isinstance(call.arguments, bytes):
        args = codec.arguments(codec.recorded_methods()[call.method], call.arguments)
        return f"{call.method}{tuple(args)}"
    return f"{call.method}{tuple(call.arguments)}"
