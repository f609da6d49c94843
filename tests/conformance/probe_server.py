"""A plugin server that makes the PDK calls of recorded cases and notes the gateway's answers."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from conformance.frames import NOTHING, PdkCall, Sent, Step
from conformance.recordings import HTTP, Case, Recording, recorded_methods
from kong_pdk.wire import msgpack_codec, protobuf_codec
from kong_pdk.wire.calls import HandleEvent, InstanceStatus, StartInstance
from kong_pdk.wire.pdk_values.protobuf_arguments import decode_arguments, encode_arguments
from local_servers import unix_service
from waiting import DEADLINE


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
        self._events: defaultdict[int, list[Sent]] = defaultdict(list)
        self._open: dict[int, tuple[Sent, Iterator[PdkCall]]] = {}
        self._ids = itertools.count(1)
        self._changed = threading.Condition()

    def serving(self) -> AbstractContextManager[None]:
        serve = self._serve_protobuf if self._recording.protocol == "ProtoBuf:1" else self._serve_msgpack
        return unix_service(self.path, serve)

    def dump(self, kind: str) -> str:
        """Give the output of the query command."""
        phases = ["rewrite", "access", "response", "log"] if kind == HTTP else ["certificate", "preread", "log"]
        plugin: dict[str, Any] = {"Name": "probe", "Version": "1.0.0", "Priority": 500, "Phases": phases}
        fields = [{"config": {"type": "record", "fields": [{"note": {"type": "string"}}]}}]
        plugin["Schema"] = {"name": "probe", "fields": fields}
        return json.dumps({"Protocol": self._recording.protocol, "Plugins": [plugin]})

    def play(self, case: Case) -> None:
        """Make this case's calls from now on, where the configuration does not name a case."""
        self._current = case
        self._events.pop(case.id, None)

    def observed(self, case: Case) -> list[Sent]:
        """Wait until as many calls are made and answered as were recorded, and give the events."""

        def counted(events: list[Sent]) -> list[tuple[str, int, int]]:
            return [(each.phase, len(each.pdk_calls), sum(call.refused for call in each.pdk_calls)) for each in events]

        with self._changed:
            self._changed.wait_for(lambda: counted(self._events[case.id]) == counted(case.events), DEADLINE)
            return self._events[case.id]

    def _start(self, config: str | bytes) -> int:
        self.started.append(json.loads(config))
        return len(self.started)

    def _begin(self, instance: int, phase: str) -> tuple[Sent, Iterator[PdkCall]]:
        """Begin an event: where to note its calls, and the calls to make."""
        config, event = (self.started[instance - 1], Sent(0, b"", HandleEvent(instance, phase)))
        case = self._current
        if '"case":' in config.get("note", ""):
            id = json.loads(config["note"])["case"]
            case = next(case for case in self._recording.cases if case.id == id)
        assert case is not None
        with self._changed:
            self._events[case.id].append(event)
            self._changed.notify_all()
        planned = next((recorded.pdk_calls for recorded in case.events if recorded.phase == phase), [])
        return event, map(self._here, planned)

    def _here(self, call: PdkCall) -> PdkCall:
        """Give a call that is not answered yet, with this run's port in it."""
        arguments = call.arguments
        if call.method == "kong.service.set_target":
            method = recorded_methods()[call.method]
            binary = isinstance(arguments, bytes)
            host, port = decode_arguments(method, arguments) if binary else arguments
            here = [host, self._ports.get(port, port)]
            arguments = encode_arguments(method, here) if binary else here
        return PdkCall(call.method, arguments)

    def _note(self, event: Sent, made: PdkCall | None = None, answer: Any = None) -> None:
        """Note a call, or the answer to the last one."""
        with self._changed:
            if made is not None:
                event.pdk_calls.append(made)
            else:
                event.pdk_calls[-1].answer = answer
            self._changed.notify_all()

    def _serve_msgpack(self, connection: socket.socket) -> None:
        messages = msgpack_codec.Messages()
        while data := connection.recv(65536):
            for message in messages.feed(data):
                assert isinstance(message, msgpack_codec.Request)
                result = self._result(message.method, message.args[0])
                connection.sendall(msgpack_codec.encode_response(message.id, None, result))

    def _result(self, method: str, argument: Any) -> Any:
        if method == "plugin.StartInstance":
            return {"Name": argument["Name"], "Id": self._start(argument["Config"])}
        if method == "plugin.CloseInstance":
            return None
        if method == "plugin.HandleEvent":
            id = next(self._ids)
            self._open[id] = self._begin(argument["InstanceId"], argument["EventName"])
        else:
            id = argument["EventId"]
            self._note(self._open[id][0], answer=Step(method, argument.get("Data", NOTHING)))
        event, planned = self._open[id]
        if (call := next(planned, None)) is None:
            return {"Data": "ret", "EventId": id}
        self._note(event, call)
        return {"Data": {"Method": call.method, "Args": call.arguments}, "EventId": id}

    def _serve_protobuf(self, connection: socket.socket) -> None:
        received = _frames(connection)

        def send(*payloads: bytes) -> None:
            connection.sendall(b"".join(map(protobuf_codec.frame, payloads)))

        for frame in received:
            sequence, call = protobuf_codec.decode_call(frame)
            answer = None
            if isinstance(call, StartInstance):
                answer = InstanceStatus(call.name, self._start(call.config))
            elif isinstance(call, HandleEvent):
                event, planned = self._begin(call.instance_id, call.event_name)
                for pdk_call in planned:
                    self._note(event, pdk_call)
                    send(pdk_call.method.encode(), pdk_call.arguments)
                    if (reply := next(received, None)) is None:
                        return
                    self._note(event, answer=reply)
                send(b"")
            send(protobuf_codec.encode_return(sequence, answer))


def _frames(connection: socket.socket) -> Iterator[bytes]:
    frames = protobuf_codec.Frames()
    while data := connection.recv(65536):
        yield from frames.feed(data)
