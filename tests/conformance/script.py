"""What Kong says in one event: the recorded answers, one after another, to the calls that our server makes."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from conformance import codec, liberties
from conformance.frames import CLOSED, NOTHING, UNREADABLE, Event, PdkCall, Step
from conformance.probe_plugin import written
from conformance.recordings import HTTP, Case
from kong_pdk.wire.msgpack_codec import step_method
from kong_pdk.wire.pdk_functions import METHODS, Method
from kong_pdk.wire.pdk_values.protobuf_results import RawBody, decode_result, encode_result

# In log Kong answers these from what it has saved of the request, under their dotted names alone.
_NOT_IN_LOG = ("kong/request/", "kong/response/", "kong/service/response/")


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
        self._last: PdkCall | None = None
        self._left = _failed_call(case, event)
        self._beyond = False
        self.cut = False

    def over_msgpack(self, method: str, args: list[Any]) -> Any:
        """Kong's answer to a call: a Step, or NOTHING."""
        if self._is_over():
            return NOTHING
        recorded = self._recorded[0] if self._recorded else None
        if recorded is not None and method == recorded.method and written(args) == written(recorded.arguments):
            return self._pass().answer
        liberty = self._liberty(method, args)
        return Step(step_method(method), liberty.answer, self._event.conn)

    def over_protobuf(self, name: str, payload: bytes) -> Any:
        """Kong's answer to a call: the bytes of a message, or CLOSED."""
        if self._is_over():
            return CLOSED
        ours = self._method(name)
        args = codec.arguments(ours, payload)
        recorded = self._recorded[0] if self._recorded else None
        if recorded is not None and ours.function == recorded.method.replace("/", "."):
            theirs = codec.recorded_methods()[recorded.method]
            same = written(args) == written(codec.arguments(theirs, recorded.arguments))
            if same and not (recorded.refused and self._may(ours.function, args)):
                return self._answer(ours, self._pass(), theirs)
        return encode_result(ours, self._liberty(ours.function, args).answer)

    def _method(self, name: str) -> Method:
        """A method that a Kong with this interface would answer in this phase, from the right request."""
        method = METHODS.get(name)
        if method is None or (method.extended and not self._case.recording.extended):
            raise Difference(f"{self._where()}: {name} is no method of this Kong's interface file")
        if self._event.phase == "log" and name.startswith(_NOT_IN_LOG):
            raise Difference(f"{self._where()}: {name}, of which Kong has saved nothing under this name for log")
        return method

    def _is_over(self) -> bool:
        """Whether the recording tells nothing of what comes now."""
        if self._left == 0:
            self.cut = True
        return self.cut or self._beyond

    def _pass(self) -> PdkCall:
        """Take the next recorded call."""
        self._last = self._recorded.popleft()
        if self._left is not None:
            self._left -= 1
        return self._last

    def _may(self, function: str, args: list[Any]) -> liberties.Liberty | None:
        recorded = self._recorded[0] if self._recorded else None
        return liberties.taken(self._case, self._event.phase, (function, args), recorded, self._last)

    def _liberty(self, function: str, args: list[Any]) -> liberties.Liberty:
        liberty = self._may(function, args)
        if liberty is None:
            recorded = _said(self._recorded[0]) if self._recorded else "no call"
            raise Difference(f"{self._where()}: {function}{tuple(args)} was called, {recorded} was recorded")
        if liberty.instead:
            self._beyond = self._pass().refused  # Kong's handler came no further
        return liberty

    def _answer(self, ours: Method, recorded: PdkCall, theirs: Method) -> Any:
        if not isinstance(recorded.answer, bytes):
            self.cut = recorded.answer is UNREADABLE
            return CLOSED
        known = codec.exact_twin(self._event, recorded) or recorded
        answer = codec.convert(known.answer, codec.recorded_methods()[known.method], ours)
        return self._spooled(ours, answer) if ours.output == "RawBodyResult" else answer

    def _spooled(self, ours: Method, answer: bytes) -> bytes:
        """The path of a large body is that of a file that is there."""
        if decode_result(ours, answer).path is None:
            return answer
        file = self._folder / "body"
        file.write_bytes(self._case.body)
        return encode_result(ours, RawBody(path=str(file)))

    def end(self) -> None:
        """The handler came to its end.

        :raises Difference: it should have made more calls. A call that Kong refused may be missing: the probe notes
            that it was refused before it was sent.
        """
        if self._left == 0:
            self.cut = True
        elif self._recorded and not self._recorded[0].refused:
            raise Difference(f"{self._where()}: the handler ended, {_said(self._recorded[0])} was recorded")

    def _where(self) -> str:
        return f"{self._case.name}, {self._event.phase}"


def _failed_call(case: Case, event: Event) -> int | None:
    """How many calls were made in an event before the one that the recording server could not send, or not read."""
    number = case.failed_result(event.phase)
    return None if number is None else number + (case.kind == HTTP)  # there the probe asks for its orders first


def _said(call: PdkCall) -> str:
    if isinstance(call.arguments, list):
        return f"{call.method}{tuple(call.arguments)}"
    return f"{call.method}{tuple(codec.arguments(codec.recorded_methods()[call.method], call.arguments))}"
