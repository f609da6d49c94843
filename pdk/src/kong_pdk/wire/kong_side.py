"""Kong's side of a connection to a plugin server, without the socket: the gateway and the tests put theirs around it.

Methods that say something give the bytes to send. Bytes that were received go to ``feed``; ``next`` gives what they
say, or None until more has come.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from kong_pdk.wire import msgpack_codec, protobuf_codec
from kong_pdk.wire.calls import Answer, Call, HandleEvent
from kong_pdk.wire.wire_errors import WireError


@dataclass(frozen=True)
class PdkCall:
    """The plugin server wants Kong to call a PDK function.

    ``method`` is its name on the wire. ``arguments`` are a list over MsgPack:1, where ``event`` is the event's id, and
    the bytes of a message over ProtoBuf:1.
    """

    method: str
    arguments: Any
    event: object = None


@dataclass(frozen=True)
class Answered:
    """The ``RpcReturn``: what the plugin server answered to a call, None for an event."""

    answer: Answer


class ProtobufSide:
    """ProtoBuf:1: an event and its PDK calls stay on one connection."""

    def __init__(self) -> None:
        self._frames = protobuf_codec.Frames()
        self._received: deque[bytes] = deque()
        self._sequence = 0
        self._in_event = False
        self._method: str | None = None

    def call(self, sequence: int, call: Call) -> bytes:
        """Make an ``RpcCall``."""
        return self.raw_call(protobuf_codec.encode_call(sequence, call), sequence, isinstance(call, HandleEvent))

    def raw_call(self, rpc_call: bytes, sequence: int, is_event: bool) -> bytes:
        """Make a frame of the bytes of an ``RpcCall``, whose answer is expected next."""
        self._sequence, self._in_event, self._method = sequence, is_event, None
        return protobuf_codec.frame(rpc_call)

    def reply(self, result: bytes) -> bytes:
        """Make the reply to a PDK call from its result message."""
        return protobuf_codec.frame(result)

    def feed(self, data: bytes) -> None:
        """Take what was received.

        :raises WireError: a length that no frame has.
        """
        self._received += self._frames.feed(data)

    def next_frame(self) -> bytes | None:
        """Give the content of the next frame, of any kind; None until a whole one has come."""
        return self._received.popleft() if self._received else None

    def next(self) -> PdkCall | Answered | None:
        """Give the next PDK call of the event, or the answer, which is the last thing that the server says.

        :raises WireError: the bytes are not of the protocol.
        """
        while (frame := self.next_frame()) is not None:
            if not self._in_event:
                return self._answered(frame)
            if self._method is not None:
                call, self._method = PdkCall(self._method, frame), None
                return call
            self._in_event, self._method = bool(frame), frame.decode("utf-8", "replace")
        return None

    def _answered(self, frame: bytes) -> Answered:
        sequence, answer = protobuf_codec.decode_return(frame)
        if sequence != self._sequence:
            raise WireError(f"the plugin server answered call {sequence} in place of {self._sequence}")
        if self._received or self._frames.partial:
            raise WireError("the plugin server sent more than its answer")
        return Answered(answer)


class MsgpackSide:
    """MsgPack:1: a request and its response; the steps of one event can take different connections."""

    def __init__(self) -> None:
        self._messages = msgpack_codec.Messages()
        self._received: deque[msgpack_codec.Message] = deque()
        self._id = 0

    def request(self, id: int, method: str, *args: object) -> bytes:
        """Make a request."""
        return self.raw_request(msgpack_codec.encode_request(id, method, args), id)

    def step(self, id: int, call: PdkCall, value: object) -> bytes:
        """Make the request that brings the value of a PDK call; None is a value that is not there."""
        data = {} if value is None else {"Data": value}
        return self.request(id, msgpack_codec.step_method(call.method), {"EventId": call.event, **data})

    def raw_request(self, request: bytes, id: int) -> bytes:
        """Give back the bytes of a request, whose response is expected next."""
        self._id = id
        return request

    def feed(self, data: bytes) -> None:
        """Take what was received.

        :raises WireError: the bytes are not of the protocol.
        """
        self._received += self._messages.feed(data)

    def next(self) -> msgpack_codec.Response | msgpack_codec.Notification | None:
        """Give the next notification, or the response, which is the last thing that the server says.

        :raises WireError: another message.
        """
        if not self._received:
            return None
        message = self._received.popleft()
        if isinstance(message, msgpack_codec.Notification):
            return message
        if isinstance(message, msgpack_codec.Response) and message.id == self._id and not self._received:
            return message
        raise WireError(f"the plugin server sent {message!r} in place of answer {self._id} alone")


def pdk_call(output: object) -> PdkCall | None:
    """Read the result of HandleEvent or of a step: the PDK call that it asks for, or None at the handler's end.

    :raises WireError: neither the one nor the other.
    """
    if not isinstance(output, dict):
        raise WireError(f"the plugin server's answer to an event is no map: {output!r}")
    data = output.get("Data")
    if data == "ret":
        return None
    if isinstance(data, dict) and isinstance(data.get("Method"), str):
        args = data.get("Args")
        return PdkCall(data["Method"], list(args) if isinstance(args, list) else [], output.get("EventId"))
    raise WireError(f"the plugin server's answer to an event is neither 'ret' nor a call: {data!r}")
