"""The frames of a case, read as steps of Kong: calls of the plugin's life with their PDK calls, and closed connections.

Kong's bytes are kept, since a replay sends them again; the recording server's bytes are only decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from kong_pdk.wire import protobuf_codec
from kong_pdk.wire.calls import Call, CloseInstance, HandleEvent, InstanceStatus, StartInstance
from msgpack import Unpacker

Frame = dict[str, Any]


class NoAnswer(Enum):
    """Stands for an answer that is not there."""

    NOTHING = "Kong refused the call or ended the request; in a step: Lua gave nil"
    UNREADABLE = "not in the recording, since the recording server could not read it"


NOTHING, UNREADABLE = NoAnswer


@dataclass(frozen=True)
class Step:
    """Kong's answer to a PDK call over MsgPack:1: its method and data (NOTHING: none)."""

    method: str
    data: Any
    conn: int = 0
    raw: bytes = field(default=b"", compare=False, repr=False)


@dataclass
class PdkCall:
    """A PDK call of the recording server, by its name on the wire, and Kong's answer.

    ``arguments`` is a list over MsgPack:1, the message's bytes over ProtoBuf:1; ``answer`` a Step or the message's
    bytes, or NoAnswer.
    """

    method: str
    arguments: Any
    answer: Any = NOTHING

    @property
    def function(self) -> str:
        """The PDK function's name as authors write it."""
        return self.method.replace("/", ".")

    @property
    def refused(self) -> bool:
        """Whether Kong never answered."""
        return self.answer is NOTHING


@dataclass
class Sent:
    """A call that Kong sent on a connection, or None where it closed the connection.

    ``instance`` is the id that the call names or, for StartInstance, is answered with. For an event, ``pdk_calls`` are
    those made in it, and ``finished`` says that the handler came to its end.
    """

    conn: int
    raw: bytes = field(repr=False)
    call: Call | None
    instance: int | None = None
    pdk_calls: list[PdkCall] = field(default_factory=list)
    finished: bool = False

    @property
    def phase(self) -> str:
        """The phase of an event, empty for other calls."""
        return self.call.event_name if isinstance(self.call, HandleEvent) else ""


def is_msgpack(frames: list[Frame]) -> bool:
    """Tell the protocols apart by Kong's first bytes: a MessagePack-RPC request is an array of four that begins
    with 0, which no message of ProtoBuf:1 begins with."""
    first = next((frame["hex"] for frame in frames if frame["from"] == "kong" and frame.get("hex")), "")
    return str(first).startswith("9400")


def read_frames(frames: list[Frame]) -> list[Sent]:
    """Give the calls that Kong sent, in order.

    :raises ValueError, KeyError, TypeError: a frame that the recordings' README does not describe.
    """
    return list((_read_msgpack if is_msgpack(frames) else _read_protobuf)(frames))


def _read_msgpack(frames: list[Frame]) -> Iterator[Sent]:
    received: dict[tuple[int, str], bytes] = {}
    asked: dict[tuple[int, int], Sent] = {}
    events: dict[int, Sent] = {}
    for frame in frames:
        conn, side = frame["conn"], frame["from"]
        if frame.get("closed"):
            if side == "kong":
                yield Sent(conn, b"", None)
            continue
        messages, received[conn, side] = _cut(received.get((conn, side), b"") + bytes.fromhex(frame["hex"]))
        for (kind, id, *content), raw in messages:
            if kind == 0:
                method, (argument, *_) = content
                if method.startswith("plugin.Step"):
                    event = asked[conn, id] = events[argument["EventId"]]
                    event.pdk_calls[-1].answer = Step(method, argument.get("Data", NOTHING), conn, raw)
                else:
                    asked[conn, id] = sent = Sent(conn, raw, _call(method, argument))
                    sent.instance = getattr(sent.call, "instance_id", None)
                    yield sent
            elif kind == 1:
                sent, (error, result) = asked[conn, id], content
                if error is not None:
                    raise ValueError(f"the recording server answered with an error: {error}")
                if isinstance(sent.call, StartInstance):
                    sent.instance = result["Id"]
                elif isinstance(sent.call, HandleEvent):
                    events[result["EventId"]] = sent
                    sent.finished = not isinstance(result["Data"], dict)
                    if not sent.finished:
                        sent.pdk_calls.append(PdkCall(result["Data"]["Method"], result["Data"]["Args"]))


def _call(method: str, argument: Any) -> Call:
    if method == "plugin.StartInstance":
        return StartInstance(argument["Name"], argument["Config"].encode("utf-8", "surrogateescape"))
    if method == "plugin.CloseInstance":
        return CloseInstance(argument)
    if method == "plugin.HandleEvent":
        return HandleEvent(argument["InstanceId"], argument["EventName"])
    raise ValueError(f"Kong has no method {method}")


def _cut(data: bytes) -> tuple[list[tuple[list[Any], bytes]], bytes]:
    """Give the whole messages, each with its bytes, and the rest. Raw strings become surrogate escapes."""
    unpacker = Unpacker(raw=False, unicode_errors="surrogateescape", strict_map_key=False, max_buffer_size=0)
    unpacker.feed(data)
    found, taken = [], 0
    for message in unpacker:
        found.append((message, data[taken : unpacker.tell()]))
        taken = unpacker.tell()
    return found, data[taken:]


def _read_protobuf(frames: list[Frame]) -> Iterator[Sent]:
    asked: dict[int, Sent] = {}
    for frame in frames:
        conn, raw = frame["conn"], bytes.fromhex(frame.get("hex") or "")
        if frame.get("closed"):
            if frame["from"] == "kong":
                yield Sent(conn, b"", None)
        elif "reply_to" in frame:
            asked[conn].pdk_calls[-1].answer = raw if "hex" in frame else UNREADABLE
        elif frame["from"] == "kong":
            _, call = protobuf_codec.decode_call(raw)
            if not isinstance(call, StartInstance | CloseInstance | HandleEvent):
                raise ValueError(f"Kong never sends a {type(call).__name__}")
            asked[conn] = sent = Sent(conn, raw, call, getattr(call, "instance_id", None))
            yield sent
        elif "args_of" in frame:
            asked[conn].pdk_calls.append(PdkCall(frame["args_of"], raw))
        elif "method" not in frame and not frame.get("end_of_calls"):
            _, answer = protobuf_codec.decode_return(raw)
            if isinstance(answer, InstanceStatus):
                asked[conn].instance = answer.instance_id
            asked[conn].finished = True
