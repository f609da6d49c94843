"""The frames of a case, as what they say: instances started and closed, events with their PDK calls, hang-ups.

Kong's bytes are kept, since a replay sends them again; the recording server's are read for their meaning alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kong_pdk.wire import calls, protobuf_codec
from msgpack import Unpacker

Frame = dict[str, Any]


class _Word:
    def __init__(self, word: str) -> None:
        self._word = word

    def __repr__(self) -> str:
        return self._word


NOTHING = _Word("<no answer>")
"""Over MsgPack:1: Kong refused the call, or it ended the request. In a step: Lua gave nil."""

CLOSED = _Word("<connection closed>")
"""The same over ProtoBuf:1."""

UNREADABLE = _Word("<not recorded>")
"""Kong's answer is not in the recording, since the recording server could not read it."""

REFUSED = (NOTHING, CLOSED)


@dataclass(frozen=True)
class Step:
    """Kong's answer to a PDK call over MsgPack:1: by which method, and with which data (NOTHING: none)."""

    method: str
    data: Any
    conn: int = 0
    raw: bytes = field(default=b"", compare=False, repr=False)


@dataclass
class PdkCall:
    """A PDK call as the recording server sent it, by its name on the wire, and Kong's answer.

    ``arguments`` is a list over MsgPack:1, the message's bytes over ProtoBuf:1. ``answer`` is a Step or NOTHING, or
    the message's bytes, CLOSED or UNREADABLE.
    """

    method: str
    arguments: Any
    answer: Any = NOTHING

    @property
    def refused(self) -> bool:
        """Whether Kong never answered."""
        return self.answer in REFUSED


@dataclass
class Start:
    """StartInstance. ``id`` is what the recording server called the instance."""

    conn: int
    raw: bytes = field(repr=False)
    name: str
    config: bytes
    id: int | None = None


@dataclass
class Close:
    """CloseInstance."""

    conn: int
    raw: bytes = field(repr=False)
    id: int


@dataclass
class Event:
    """HandleEvent, with the calls that were made in it; ``finished``: the handler came to its end."""

    conn: int
    raw: bytes = field(repr=False)
    instance: int
    phase: str
    calls: list[PdkCall] = field(default_factory=list)
    finished: bool = False


@dataclass
class HangUp:
    """Kong closed a connection."""

    conn: int


Item = Start | Close | Event | HangUp


def is_msgpack(frames: list[Frame]) -> bool:
    """Tell the protocols apart by Kong's first bytes: a MessagePack-RPC request is an array of four that begins
    with 0, which no message of ProtoBuf:1 begins with."""
    first = next((frame["hex"] for frame in frames if frame["from"] == "kong" and frame.get("hex")), "")
    return str(first).startswith("9400")


def items(frames: list[Frame]) -> list[Item]:
    """What the frames of a case say, in the order in which Kong said it.

    :raises ValueError, KeyError, TypeError: a frame that is not as the recordings' README says.
    """
    reader = _MsgpackReader() if is_msgpack(frames) else _ProtobufReader()
    for frame in frames:
        reader.read(frame)
    return reader.items


class _MsgpackReader:
    def __init__(self) -> None:
        self.items: list[Item] = []
        self._received: dict[tuple[int, str], bytes] = {}
        self._asked: dict[tuple[int, int], Start | Event | None] = {}
        self._events: dict[int, Event] = {}

    def read(self, frame: Frame) -> None:
        conn, side = frame["conn"], frame["from"]
        if frame.get("closed"):
            if side == "kong":
                self.items.append(HangUp(conn))
            return
        self._received[conn, side] = self._received.get((conn, side), b"") + bytes.fromhex(frame["hex"])
        for message, raw in self._messages(conn, side):
            if message[0] == 0:
                self._request(conn, message, raw)
            elif message[0] == 1:
                self._response(conn, message)

    def _messages(self, conn: int, side: str) -> Iterator[tuple[list[Any], bytes]]:
        data = self._received[conn, side]
        unpacker = unpacker_of(data)
        taken = 0
        for message in unpacker:
            yield message, data[taken : unpacker.tell()]
            taken = unpacker.tell()
        self._received[conn, side] = data[taken:]

    def _request(self, conn: int, message: list[Any], raw: bytes) -> None:
        _, id, method, (argument, *_) = message
        item: Item | None = None
        if method == "plugin.StartInstance":
            item = Start(conn, raw, argument["Name"], argument["Config"].encode("utf-8", "surrogateescape"))
        elif method == "plugin.CloseInstance":
            item = Close(conn, raw, argument)
        elif method == "plugin.HandleEvent":
            item = Event(conn, raw, argument["InstanceId"], argument["EventName"])
        elif method.startswith("plugin.Step"):
            event = self._events[argument["EventId"]]
            event.calls[-1].answer = Step(method, argument.get("Data", NOTHING), conn, raw)
            self._asked[conn, id] = event
            return
        else:
            raise ValueError(f"Kong has no method {method}")
        self.items.append(item)
        self._asked[conn, id] = None if isinstance(item, Close) else item

    def _response(self, conn: int, message: list[Any]) -> None:
        _, id, error, result = message
        asked = self._asked[conn, id]
        if error is not None:
            raise ValueError(f"the recording server answered with an error: {error}")
        if isinstance(asked, Start):
            asked.id = result["Id"]
        elif isinstance(asked, Event):
            self._events[result["EventId"]] = asked
            data = result["Data"]
            if isinstance(data, dict):
                asked.calls.append(PdkCall(data["Method"], data["Args"]))
            else:
                asked.finished = True


def unpacker_of(data: bytes) -> Unpacker:
    """Read MessagePack with raw strings as surrogate escapes, so that nothing is lost."""
    unpacker = Unpacker(raw=False, unicode_errors="surrogateescape", strict_map_key=False, max_buffer_size=0)
    unpacker.feed(data)
    return unpacker


class _ProtobufReader:
    def __init__(self) -> None:
        self.items: list[Item] = []
        self._asked: dict[int, Start | Event | None] = {}

    def read(self, frame: Frame) -> None:
        conn, asked = frame["conn"], self._asked.get(frame["conn"])
        if frame.get("closed"):
            if frame["from"] == "kong":
                self.items.append(HangUp(conn))
        elif frame["from"] == "kong":
            if "reply_to" in frame:
                _event(asked).calls[-1].answer = bytes.fromhex(frame["hex"]) if "hex" in frame else UNREADABLE
            else:
                self._call(conn, bytes.fromhex(frame["hex"]))
        elif "args_of" in frame:
            call = PdkCall(frame["args_of"], bytes.fromhex(frame["hex"]), CLOSED)
            _event(asked).calls.append(call)
        elif "method" not in frame and not frame.get("end_of_calls"):
            self._return(asked, bytes.fromhex(frame["hex"]))

    def _call(self, conn: int, raw: bytes) -> None:
        _, call = protobuf_codec.decode_call(raw)
        item: Item
        if isinstance(call, calls.StartInstance):
            item = Start(conn, raw, call.name, call.config)
        elif isinstance(call, calls.CloseInstance):
            item = Close(conn, raw, call.instance_id)
        elif isinstance(call, calls.HandleEvent):
            item = Event(conn, raw, call.instance_id, call.event_name)
        else:
            raise ValueError(f"Kong never sends a {type(call).__name__}")
        self.items.append(item)
        self._asked[conn] = None if isinstance(item, Close) else item

    @staticmethod
    def _return(asked: Start | Event | None, raw: bytes) -> None:
        _, answer = protobuf_codec.decode_return(raw)
        if isinstance(asked, Start) and isinstance(answer, calls.InstanceStatus):
            asked.id = answer.instance_id
        elif isinstance(asked, Event):
            asked.finished = True


def _event(asked: Start | Event | None) -> Event:
    if not isinstance(asked, Event):
        raise ValueError("a PDK call outside of an event")
    return asked
