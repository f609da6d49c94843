"""The probe of the stream and certificate recordings: its orders are in its configuration, under ``note``.

It answers as the recording server did: over ProtoBuf:1 it does not wait for the reply to a call that gives nothing.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.codec import NO_METHOD, recorded_methods
from conformance.frames import CLOSED, NOTHING, PdkCall, Step
from conformance.unix_server import FrameStream, UnixServer, answer_requests
from kong_pdk.wire import calls, protobuf_codec
from kong_pdk.wire.pdk_values.protobuf_arguments import encode_arguments
from kong_pdk.wire.wire_errors import ArgumentError

_EXIT = "kong.response.exit"
_PLUGIN = {
    "Name": "probe",
    "Version": "1.0.0",
    "Priority": 500,
    "Phases": ["certificate", "preread", "log"],
    "Schema": {
        "name": "probe",
        "fields": [{"config": {"type": "record", "fields": [{"note": {"type": "string"}}]}}],
    },
}


@dataclass
class Event:
    """What came of one event: the calls with Kong's answers, as a recording has them."""

    phase: str
    made: list[PdkCall] = field(default_factory=list)


@dataclass
class Instance:
    """A configuration that Kong has started, with the events that it has had."""

    config: dict[str, Any]
    events: list[Event] = field(default_factory=list)

    @property
    def case(self) -> int:
        case: int = json.loads(self.config["note"])["case"]
        return case

    def orders(self, phase: str) -> Iterator[tuple[str, list[Any]]]:
        return iter([(method, args) for method, args in json.loads(self.config["note"]).get(phase, [])])


class NoteProbe(UnixServer):
    """What both protocols have in common."""

    protocol: str

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.instances: list[Instance] = []

    def __enter__(self) -> NoteProbe:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def dump(self) -> str:
        """What the query command prints."""
        return json.dumps({"Protocol": self.protocol, "Plugins": [_PLUGIN]})

    def of(self, case: int) -> Instance | None:
        """The last instance whose orders are those of a case."""
        return next((instance for instance in reversed(self.instances) if instance.case == case), None)

    def start_instance(self, config: bytes | str) -> int:
        self.instances.append(Instance(json.loads(config)))
        return len(self.instances)

    def begin(self, instance: int, phase: str) -> tuple[Event, Iterator[tuple[str, list[Any]]]]:
        """An event begins: where to note its calls, and the calls to make."""
        event = Event(phase)
        self.instances[instance - 1].events.append(event)
        return event, self.instances[instance - 1].orders(phase)


class MsgPackNoteProbe(NoteProbe):
    protocol = "MsgPack:1"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._events: list[tuple[Event, Iterator[tuple[str, list[Any]]]]] = []

    def serve(self, connection: socket.socket) -> None:
        answer_requests(connection, self._answer)

    def _answer(self, method: str, argument: Any) -> Any:
        if method == "plugin.StartInstance":
            return {"Name": argument["Name"], "Id": self.start_instance(argument["Config"])}
        if method == "plugin.CloseInstance":
            return None
        if method == "plugin.HandleEvent":
            self._events.append(self.begin(argument["InstanceId"], argument["EventName"]))
            event_id = len(self._events)
        else:
            event_id = argument["EventId"]
            self._events[event_id - 1][0].made[-1].answer = Step(method, argument.get("Data", NOTHING))
        return {"Data": self._next(*self._events[event_id - 1]), "EventId": event_id}

    @staticmethod
    def _next(event: Event, orders: Iterator[tuple[str, list[Any]]]) -> Any:
        order = next(orders, None)
        if order is None:
            return "ret"
        event.made.append(PdkCall(*order))
        return {"Method": order[0], "Args": order[1]}


class _Frames(FrameStream):
    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.owed: list[PdkCall] = []

    def next(self) -> bytes:
        """The next frame that is no reply to a call whose answer was not waited for."""
        while self.owed:
            self.owed[0].answer = super().next()
            self.owed.pop(0)
        return super().next()


class ProtoBufNoteProbe(NoteProbe):
    protocol = "ProtoBuf:1"

    def serve(self, connection: socket.socket) -> None:
        frames = _Frames(connection)
        while True:
            sequence, call = protobuf_codec.decode_call(frames.next())
            if isinstance(call, calls.StartInstance):
                status = calls.InstanceStatus(call.name, self.start_instance(call.config))
                frames.send(protobuf_codec.encode_return(sequence, status))
            elif isinstance(call, calls.HandleEvent):
                self._event(frames, sequence, call)
            else:
                frames.send(protobuf_codec.encode_return(sequence, None))

    def _event(self, frames: _Frames, sequence: int, call: calls.HandleEvent) -> None:
        event, orders = self.begin(call.instance_id, call.event_name)
        for name, args in orders:
            method = recorded_methods().get(name, NO_METHOD)
            try:
                payload = b"" if method is NO_METHOD else encode_arguments(method, args)
            except ArgumentError:
                continue  # the recording server could not send it either
            made = PdkCall(name, payload, CLOSED)
            event.made.append(made)
            frames.send(name.encode(), payload)
            if method.output == "Empty" and name != _EXIT:
                frames.owed.append(made)
            else:
                made.answer = frames.next()
        frames.send(b"", protobuf_codec.encode_return(sequence, None))


NOTE_PROBES: dict[str, type[NoteProbe]] = {"MsgPack:1": MsgPackNoteProbe, "ProtoBuf:1": ProtoBufNoteProbe}
