"""The recordings of a real Kong: what a plugin server sent in each event, and what Kong answered."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kong_pdk.wire import msgpack, pdk
from kong_pdk.wire.interface import STOCK

FOLDER = Path(os.environ.get("KONG_RECORDINGS") or Path(__file__).parents[3] / "shared" / "kong-3.9.3")
FILES = {"MsgPack:1": "msgpack.jsonl", "ProtoBuf:1": "protobuf.jsonl"}


class _Word:
    def __init__(self, word: str) -> None:
        self._word = word

    def __repr__(self) -> str:
        return self._word


NOTHING = _Word("<no answer>")
CLOSED = _Word("<connection closed>")


@dataclass(frozen=True)
class Step:
    """Kong's answer to a PDK call over MsgPack:1: by which method, and with which data (NOTHING: none)."""

    method: str
    data: Any


@dataclass
class PdkCall:
    """A PDK call as the recording server sent it, and Kong's answer.

    ``arguments`` is a list over MsgPack:1, the message's bytes over ProtoBuf:1. ``answer`` is a Step or
    NOTHING, or the decoded message or CLOSED.
    """

    method: str
    arguments: Any
    answer: Any = NOTHING


@dataclass(frozen=True)
class Case:
    """One recorded request. ``events`` are those that Kong sent, in order: phase and PDK calls."""

    protocol: str
    id: int
    request: dict[str, Any]
    orders: dict[str, Any]
    response: dict[str, Any]
    reference_server_failed: bool
    events: list[tuple[str, list[PdkCall]]] = field(repr=False)

    @property
    def label(self) -> str:
        methods = [method.removeprefix("kong.") for calls in self.orders.values() for method, _ in calls]
        return f"{self.id}-{'+'.join(self.orders)}-{methods[0] if methods else 'nothing'}"

    def raw_request(self) -> bytes:
        """The request as it was really sent."""
        request = self.request
        orders = json.dumps({**self.orders, "case": self.id})
        body = bytes.fromhex(request.get("body_hex") or "")
        lines = [f"{request['method']} {request['path']} HTTP/1.1".encode()]
        lines += [_header(name, value) for name, value in [*request["headers"], ["x-probe", orders]]]
        if body or request["method"] == "POST":
            lines.append(b"content-length: %d" % len(body))
        lines.append(b"connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _header(name: str, value: str) -> bytes:
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        raw = value.encode()
    return name.encode() + b": " + raw


def cases(protocol: str) -> list[Case]:
    """All recorded HTTP requests of a protocol; none where there are no recordings."""
    path = FOLDER / FILES[protocol]
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as lines:
        return [_case(protocol, json.loads(line)) for line in lines]


def started_configuration() -> dict[str, Any]:
    """The configuration that Kong gave to StartInstance."""
    with (FOLDER / FILES["MsgPack:1"]).open(encoding="utf-8") as lines:
        first = json.loads(lines.readline())["frames"][0]
    configuration: dict[str, Any] = json.loads(first["message"][3][0]["Config"])
    return configuration


def _case(protocol: str, recorded: dict[str, Any]) -> Case:
    read = _msgpack_events if protocol == "MsgPack:1" else _protobuf_events
    return Case(
        protocol=protocol,
        id=recorded["id"],
        request=recorded["request"],
        orders=recorded["calls"],
        response=recorded["response"],
        reference_server_failed=bool(recorded.get("reference_server_failed")),
        events=list(read(recorded["frames"])),
    )


def _msgpack_events(frames: list[dict[str, Any]]) -> Iterator[tuple[str, list[PdkCall]]]:
    events: list[tuple[str, list[PdkCall]]] = []
    streams: dict[tuple[int, str], msgpack.Messages] = {}
    for frame in frames:
        stream = streams.setdefault((frame["conn"], frame["from"]), msgpack.Messages())
        for message in stream.feed(bytes.fromhex(frame.get("hex", ""))):
            if isinstance(message, msgpack.Response):
                _msgpack_call(events, message.result)
            elif isinstance(message, msgpack.Request):
                _msgpack_request(events, message)
    yield from events


def _msgpack_call(events: list[tuple[str, list[PdkCall]]], result: Any) -> None:
    data = result.get("Data") if isinstance(result, dict) else None
    if isinstance(data, dict):
        events[-1][1].append(PdkCall(data["Method"], data["Args"]))


def _msgpack_request(events: list[tuple[str, list[PdkCall]]], message: msgpack.Request) -> None:
    if message.method == "plugin.HandleEvent":
        events.append((message.args[0]["EventName"], []))
    elif message.method.startswith("plugin.Step"):
        events[-1][1][-1].answer = Step(message.method, message.args[0].get("Data", NOTHING))


def _protobuf_events(frames: list[dict[str, Any]]) -> Iterator[tuple[str, list[PdkCall]]]:
    events: list[tuple[str, list[PdkCall]]] = []
    for frame in frames:
        message = frame.get("message") or {}
        if "cmd_handle_event" in message:
            events.append((message["cmd_handle_event"]["event_name"], []))
        elif "args_of" in frame:
            events[-1][1].append(PdkCall(frame["args_of"], bytes.fromhex(frame["hex"]), CLOSED))
        elif "reply_to" in frame:
            call = events[-1][1][-1]
            call.answer = pdk.decode_result(STOCK.method(call.method), bytes.fromhex(frame["hex"]))
    yield from events
