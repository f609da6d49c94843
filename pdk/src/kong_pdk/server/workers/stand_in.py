"""Answers a connection in the master while no worker serves: Kong gets an answer in good order, and repeats nothing."""

from __future__ import annotations

from kong_pdk.server.event_ids import phase_of_request
from kong_pdk.server.failure_answers import FailureAnswers, lets_pass
from kong_pdk.wire.calls import StartInstance
from kong_pdk.wire.msgpack_codec import SNIFFED, Messages, Request, encode_response, is_msgpack
from kong_pdk.wire.protobuf_codec import EventCalls, Frames, decode_call, encode_return, frame
from kong_pdk.wire.wire_errors import WireError


class StandIn:
    """What was read of a connection, and the answers to it."""

    def __init__(self, answers: FailureAnswers, owed: int = 0) -> None:
        """:param owed: how many replies to calls of the last handler come first, over ProtoBuf:1."""
        self._answers = answers
        self.owed = owed
        """How many of them still come."""
        self._start = bytearray()
        self._frames: Frames | None = None
        self._messages: Messages | None = None
        self._unanswered = 0
        self.is_last = False
        """Whether nothing more is answered: the connection is closed once Kong has read the answer."""

    @property
    def is_at_rest(self) -> bool:
        """Whether all that was read is answered, and a worker can go on."""
        if self.is_last:
            return False
        if self._messages is not None:
            return not self._unanswered
        return not self._start and (self._frames is None or not self._frames.partial)

    def feed(self, data: bytes) -> bytes:
        """Read what has come, and give the answer.

        :raises WireError: the bytes are of no protocol, or the connection has to be closed without an answer.
        """
        if self._frames is None and self._messages is None:
            self._start += data
            if len(self._start) < SNIFFED:
                return b""
            data = bytes(self._start)
            self._start.clear()
            if is_msgpack(data):
                self._messages = Messages()
            else:
                self._frames = Frames()
        if self._messages is not None:
            return self._answer_msgpack(self._messages, data)
        assert self._frames is not None
        return b"".join(map(self._answer_frame, self._frames.feed(data)))

    def _answer_frame(self, payload: bytes) -> bytes:
        if self.owed:
            self.owed -= 1
            return b""
        if self.is_last:  # a reply to a call of the handler
            return b""
        event = EventCalls().decode(payload)
        if event is not None:
            self.is_last = not lets_pass(event[1].event_name, False)
            return self._answers.protobuf_event(event[1].event_name, False, event[0])
        sequence, call = decode_call(payload)
        if isinstance(call, StartInstance):  # a connection that is closed is the protocol's only error
            raise WireError("no worker can start an instance")
        return frame(encode_return(sequence, None))

    def _answer_msgpack(self, messages: Messages, data: bytes) -> bytes:
        found = messages.feed(data)
        self._unanswered = 0 if found else self._unanswered + len(data)
        return b"".join(self._answer_request(each) for each in found if isinstance(each, Request))

    def _answer_request(self, request: Request) -> bytes:
        phase = phase_of_request(request)
        if phase is not None:
            return self._answers.msgpack_event(phase, False, request.id)
        if request.method == "plugin.CloseInstance":
            return encode_response(request.id, None, {})
        return self._answers.msgpack_call(request.id)
