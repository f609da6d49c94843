"""A plugin server that makes the PDK calls of one recorded request, and notes what it is answered."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance import codec
from conformance.recordings import CLOSED, NOTHING, Case, PdkCall, Step
from conformance.unix_server import FrameStream, UnixServer, answer_requests
from kong_pdk.wire import calls, protobuf_codec
from kong_pdk.wire.pdk_values.protobuf_arguments import decode_arguments, encode_arguments

RECORDED_UPSTREAM_PORT = 18090
_CONFIG = {"config": {"type": "record", "fields": [{"note": {"type": "string"}}]}}
PLUGIN = {
    "Name": "probe",
    "Version": "1.0.0",
    "Priority": 500,
    "Phases": ["rewrite", "access", "response", "log"],
    "Schema": {"name": "probe", "fields": [_CONFIG]},
}


@dataclass
class Observed:
    """What came of a case: each event with the calls made in it, and whether the last one has ended."""

    events: list[tuple[str, list[PdkCall]]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)


class ProbeServer(UnixServer):
    """What both protocols have in common."""

    protocol: str

    def __init__(self, path: Path, upstream_port: int) -> None:
        super().__init__(path)
        self.upstream_port = upstream_port
        self.started: list[dict[str, Any]] = []
        self._case: Case | None = None
        self._observed = Observed()

    def play(self, case: Case) -> Observed:
        """From now on make this case's calls."""
        self._case, self._observed = case, Observed()
        return self._observed

    def dump(self) -> str:
        """What the query command prints."""
        return json.dumps({"Protocol": self.protocol, "Plugins": [PLUGIN]})

    def begin(self, phase: str) -> tuple[Observed, list[PdkCall], Iterator[PdkCall]]:
        """An event begins: where to note its calls, and the calls to make."""
        assert self._case is not None
        made: list[PdkCall] = []
        self._observed.events.append((phase, made))
        planned = next((event.calls for event in self._case.events if event.phase == phase), [])
        return self._observed, made, map(self._here, planned)

    def _here(self, call: PdkCall) -> PdkCall:
        """A call with this run's port of the upstream in it."""
        if call.method != "kong.service.set_target":
            return call
        binary = isinstance(call.arguments, bytes)
        method = codec.recorded_methods()[call.method]
        host, port = decode_arguments(method, call.arguments) if binary else call.arguments
        here = [host, self.upstream_port if port == RECORDED_UPSTREAM_PORT else port]
        return PdkCall(call.method, encode_arguments(method, here) if binary else here)


@dataclass
class _Event:
    phase: str
    observed: Observed
    made: list[PdkCall]
    planned: Iterator[PdkCall]


class MsgPackProbe(ProbeServer):
    protocol = "MsgPack:1"

    def __init__(self, path: Path, upstream_port: int) -> None:
        super().__init__(path, upstream_port)
        self._events: dict[int, _Event] = {}

    def serve(self, connection: socket.socket) -> None:
        answer_requests(connection, self._answer)

    def _answer(self, method: str, argument: Any) -> Any:
        if method == "plugin.StartInstance":
            self.started.append(json.loads(argument["Config"]))
            return {"Name": argument["Name"], "Id": len(self.started)}
        if method == "plugin.CloseInstance":
            return None
        if method == "plugin.HandleEvent":
            event_id = len(self._events) + 1
            self._events[event_id] = _Event(argument["EventName"], *self.begin(argument["EventName"]))
        else:
            event_id = argument["EventId"]
            self._events[event_id].made[-1].answer = Step(method, argument.get("Data", NOTHING))
        return {"Data": self._next(self._events[event_id]), "EventId": event_id}

    def _next(self, event: _Event) -> Any:
        call = next(event.planned, None)
        if call is None:
            if event.phase == "log":
                event.observed.ended.set()
            return "ret"
        event.made.append(PdkCall(call.method, call.arguments))
        return {"Method": call.method, "Args": call.arguments}


class ProtoBufProbe(ProbeServer):
    protocol = "ProtoBuf:1"

    def serve(self, connection: socket.socket) -> None:
        stream = FrameStream(connection)
        while True:
            sequence, call = protobuf_codec.decode_call(stream.next())
            if isinstance(call, calls.StartInstance):
                self.started.append(json.loads(call.config))
                status = calls.InstanceStatus(call.name, len(self.started))
                stream.send(protobuf_codec.encode_return(sequence, status))
            elif isinstance(call, calls.HandleEvent):
                self._event(stream, sequence, call.event_name)
            else:
                stream.send(protobuf_codec.encode_return(sequence, None))

    def _event(self, stream: FrameStream, sequence: int, phase: str) -> None:
        observed, made, planned = self.begin(phase)
        for call in planned:
            note = PdkCall(call.method, call.arguments, CLOSED)
            made.append(note)
            stream.send(call.method.encode(), call.arguments)
            note.answer = stream.next()
        stream.send(b"", protobuf_codec.encode_return(sequence, None))
        if phase == "log":
            observed.ended.set()


PROBES: dict[str, type[ProbeServer]] = {"MsgPack:1": MsgPackProbe, "ProtoBuf:1": ProtoBufProbe}
