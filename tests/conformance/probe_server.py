"""A plugin server that makes the PDK calls of recorded cases and notes the gateway's answers."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.frames import CLOSED, NOTHING, PdkCall, Sent, Step
from conformance.recordings import CERTIFICATE, HTTP, STREAM, Case, Recording, recorded_methods
from fake_kong import DEADLINE
from kong_pdk.wire import msgpack_codec, protobuf_codec
from kong_pdk.wire.calls import HandleEvent, InstanceStatus, StartInstance
from kong_pdk.wire.pdk_values.protobuf_arguments import decode_arguments, encode_arguments
from local_servers import unix_service

PHASES = {
    HTTP: ["rewrite", "access", "response", "log"],
    STREAM: ["certificate", "preread", "log"],
    CERTIFICATE: ["certificate", "preread", "log"],
}


@dataclass
class Event:
    """An event with its calls and Kong's answers, as in a recording."""

    phase: str
    pdk_calls: list[PdkCall] = field(default_factory=list)


@dataclass
class Observed:
    """What the probe received for one case: the configuration, and the events with their calls."""

    config: dict[str, Any]
    events: list[Event] = field(default_factory=list)


class ProbeServer:
    """Serves plugin ``probe``. Its configuration or the test names the case whose calls it makes.

    ``ports`` maps the recorded ports of services to those of this run.
    """

    def __init__(self, path: Path, recording: Recording, ports: dict[int, int]) -> None:
        self.path = path
        self.started: list[dict[str, Any]] = []
        self._recording = recording
        self._ports = ports
        self._current: Case | None = None
        self._observed: dict[int, Observed] = {}
        self._events: dict[int, tuple[Event, Iterator[PdkCall]]] = {}
        self._ids = itertools.count(1)
        self._changed = threading.Condition()

    def serving(self) -> AbstractContextManager[None]:
        serve = self._serve_protobuf if self._recording.protocol == "ProtoBuf:1" else self._serve_msgpack
        return unix_service(self.path, serve)

    def dump(self, kind: str) -> str:
        """Give the output of the query command."""
        fields = [{"config": {"type": "record", "fields": [{"note": {"type": "string"}}]}}]
        plugin = {"Name": "probe", "Version": "1.0.0", "Priority": 500, "Phases": PHASES[kind]}
        plugin["Schema"] = {"name": "probe", "fields": fields}
        return json.dumps({"Protocol": self._recording.protocol, "Plugins": [plugin]})

    def play(self, case: Case) -> None:
        """Make this case's calls from now on, where the configuration does not name a case."""
        self._current = case
        self._observed.pop(case.id, None)

    def observed(self, case: Case) -> Observed:
        """Wait until all recorded calls are made and answered, and give the observations."""

        def counted(events: list[Event] | list[Sent]) -> list[tuple[str, int, int]]:
            return [(each.phase, len(each.pdk_calls), sum(call.refused for call in each.pdk_calls)) for each in events]

        def is_over() -> bool:
            return case.id in self._observed and counted(self._observed[case.id].events) == counted(case.events)

        with self._changed:
            self._changed.wait_for(is_over, 0 if not case.events else DEADLINE)
            return self._observed.get(case.id) or Observed({})

    def _start(self, config: str | bytes) -> int:
        self.started.append(json.loads(config))
        return len(self.started)

    def _begin(self, instance: int, phase: str) -> tuple[Event, Iterator[PdkCall]]:
        """Begin an event: where to note its calls, and the calls to make."""
        config, event = self.started[instance - 1], Event(phase)
        case = self._case(config)
        with self._changed:
            self._observed.setdefault(case.id, Observed(config)).events.append(event)
            self._changed.notify_all()
        planned = next((recorded.pdk_calls for recorded in case.events if recorded.phase == phase), [])
        return event, map(self._here, planned)

    def _case(self, config: dict[str, Any]) -> Case:
        if '"case":' in config.get("note", ""):
            id = json.loads(config["note"])["case"]
            return next(case for case in self._recording.cases if case.id == id)
        assert self._current is not None
        return self._current

    def _here(self, call: PdkCall) -> PdkCall:
        """Give a call that is not answered yet, with this run's port in it."""
        arguments = call.arguments
        if call.method == "kong.service.set_target":
            method = recorded_methods()[call.method]
            binary = isinstance(arguments, bytes)
            host, port = decode_arguments(method, arguments) if binary else arguments
            here = [host, self._ports.get(port, port)]
            arguments = encode_arguments(method, here) if binary else here
        return PdkCall(call.method, arguments, CLOSED if isinstance(arguments, bytes) else NOTHING)

    def _note(self, event: Event, made: PdkCall | None = None, answer: Any = None) -> None:
        """Note a call, or the answer to the last one."""
        with self._changed:
            if made is not None:
                event.pdk_calls.append(made)
            else:
                event.pdk_calls[-1].answer = answer
            self._changed.notify_all()

    def _serve_msgpack(self, connection: socket.socket) -> None:
        answer_requests(connection, self._answer)

    def _answer(self, method: str, argument: Any) -> Any:
        if method == "plugin.StartInstance":
            return {"Name": argument["Name"], "Id": self._start(argument["Config"])}
        if method == "plugin.CloseInstance":
            return None
        if method == "plugin.HandleEvent":
            id = next(self._ids)
            self._events[id] = self._begin(argument["InstanceId"], argument["EventName"])
        else:
            id = argument["EventId"]
            self._note(self._events[id][0], answer=Step(method, argument.get("Data", NOTHING)))
        event, planned = self._events[id]
        if (call := next(planned, None)) is None:
            return {"Data": "ret", "EventId": id}
        self._note(event, call)
        return {"Data": {"Method": call.method, "Args": call.arguments}, "EventId": id}

    def _serve_protobuf(self, connection: socket.socket) -> None:
        stream = FrameStream(connection)
        while True:
            sequence, call = protobuf_codec.decode_call(stream.next())
            answer = None
            if isinstance(call, StartInstance):
                answer = InstanceStatus(call.name, self._start(call.config))
            elif isinstance(call, HandleEvent):
                event, planned = self._begin(call.instance_id, call.event_name)
                for pdk_call in planned:
                    self._note(event, pdk_call)
                    stream.send(pdk_call.method.encode(), pdk_call.arguments)
                    self._note(event, answer=stream.next())
                stream.send(b"")
            stream.send(protobuf_codec.encode_return(sequence, answer))


def answer_requests(connection: socket.socket, answer: Callable[[str, Any], Any]) -> None:
    """Serve a connection of MsgPack:1: ``answer`` gives the result for a method and its argument."""
    messages = msgpack_codec.Messages()
    while data := connection.recv(65536):
        for message in messages.feed(data):
            assert isinstance(message, msgpack_codec.Request)
            result = answer(message.method, message.args[0])
            connection.sendall(msgpack_codec.encode_response(message.id, None, result))


class FrameStream:
    """A connection of ProtoBuf:1 as a plugin server has it, frame by frame."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._frames = protobuf_codec.Frames()
        self._received: list[bytes] = []

    def next(self) -> bytes:
        """Wait for the next frame. Raises EOFError at the end."""
        while not self._received:
            data = self._connection.recv(65536)
            if not data:
                raise EOFError
            self._received = self._frames.feed(data)
        return self._received.pop(0)

    def send(self, *payloads: bytes) -> None:
        self._connection.sendall(b"".join(protobuf_codec.frame(payload) for payload in payloads))
