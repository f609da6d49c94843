"""Kong's part in one event: the recorded answers, in order, to the calls of our server."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from conformance.deviations import OtherCall, other_call
from conformance.frames import CLOSED, NOTHING, UNREADABLE, NoAnswer, PdkCall, Sent, Step
from conformance.messages_of_calls import arguments, arguments_of, convert, exact_twin
from conformance.probe_plugin import typed
from conformance.recordings import Case
from kong_pdk.wire.msgpack_codec import step_method
from kong_pdk.wire.pdk_functions import METHODS, Method
from kong_pdk.wire.pdk_values.protobuf_results import RawBody, decode_result, encode_result

# In log Kong answers these from its copy of the request, only by their dotted names.
_NOT_IN_LOG = ("kong/request/", "kong/response/", "kong/service/response/")


class Difference(AssertionError):
    """Our server did something that the recorded one did not do."""


class KongAnswers:
    """The answers to the calls of one event. ``cut`` is set where the rest of the recording cannot be used."""

    def __init__(self, case: Case, event: Sent, folder: Path) -> None:
        """:param folder: for the file of a large body that our server reads."""
        self._case = case
        self._folder = folder
        self._event = event
        self._recorded = deque(event.pdk_calls)
        self._last: PdkCall | None = None
        failed = case.failed_result(event.phase)
        self._usable = None if failed is None else failed + case.orders_come_first
        self._beyond = False
        self.cut = False

    def over_msgpack(self, method: str, args: list[Any]) -> Step | NoAnswer:
        """Answer a call."""
        if self._is_over():
            return NOTHING
        recorded = self._next
        if recorded is not None and method == recorded.method and typed(args) == typed(recorded.arguments):
            answer: Step | NoAnswer = self._take().answer
            return answer
        return Step(step_method(method), self._other(method, args).answer, self._event.conn)

    def over_protobuf(self, name: str, payload: bytes) -> bytes | NoAnswer:
        """Answer a call by a message, or CLOSED."""
        if self._is_over():
            return CLOSED
        our_method = self._method(name)
        args = arguments(our_method, payload)
        recorded = self._next
        same = recorded and our_method.function == recorded.function and typed(args) == typed(arguments_of(recorded))
        if recorded and same and not (recorded.refused and self._allowed(our_method.function, args)):
            return self._answer(our_method, self._take())
        return encode_result(our_method, self._other(our_method.function, args).answer)

    def end(self) -> None:
        """Take the end of the handler.

        :raises Difference: a recorded call is missing. A call that Kong refused may be missing: the probe notes
            that it was refused before it was sent.
        """
        if self._usable == 0:
            self.cut = True
        elif self._next is not None and not self._next.refused:
            raise Difference(f"{self._where}: the handler ended, {_described(self._next)} was recorded")

    @property
    def _next(self) -> PdkCall | None:
        return self._recorded[0] if self._recorded else None

    @property
    def _where(self) -> str:
        return f"{self._case.name}, {self._event.phase}"

    def _method(self, name: str) -> Method:
        """Check that a Kong with this interface answers this method in this phase."""
        method = METHODS.get(name)
        if method is None or (method.extended and not self._case.recording.extended):
            raise Difference(f"{self._where}: {name} is no method of this Kong's interface file")
        if self._event.phase == "log" and name.startswith(_NOT_IN_LOG):
            raise Difference(f"{self._where}: {name}, of which Kong has saved nothing under this name for log")
        return method

    def _is_over(self) -> bool:
        """Whether the recording has nothing more for this event."""
        self.cut = self.cut or self._usable == 0
        return self.cut or self._beyond

    def _take(self) -> PdkCall:
        self._last = self._recorded.popleft()
        if self._usable is not None:
            self._usable -= 1
        return self._last

    def _allowed(self, function: str, args: list[Any]) -> OtherCall | None:
        return other_call(self._case, self._event.phase, (function, args), self._next, self._last)

    def _other(self, function: str, args: list[Any]) -> OtherCall:
        other = self._allowed(function, args)
        if other is None:
            recorded = _described(self._next) if self._next else "no call"
            raise Difference(f"{self._where}: {function}{tuple(args)} was called, {recorded} was recorded")
        if other.instead:
            self._beyond = self._take().refused  # Kong's handler stopped here.
        return other

    def _answer(self, our_method: Method, recorded: PdkCall) -> bytes | NoAnswer:
        if not isinstance(recorded.answer, bytes):
            self.cut = recorded.answer is UNREADABLE
            return CLOSED
        answer = convert(exact_twin(self._event, recorded) or recorded, our_method)
        if our_method.output != "RawBodyResult" or decode_result(our_method, answer).path is None:
            return answer
        file = self._folder / "body"  # The path of a large body must be a file that exists.
        file.write_bytes(self._case.body)
        return encode_result(our_method, RawBody(path=str(file)))


def _described(call: PdkCall) -> str:
    return f"{call.method}{tuple(arguments_of(call))}"
