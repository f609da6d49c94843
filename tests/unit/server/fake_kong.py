"""Kong's side of the wire, enough of it to drive a plugin server in tests: both protocols, one shape."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kong_pdk.wire import protobuf_codec
from kong_pdk.wire.calls import Call, CloseInstance, HandleEvent, InstanceStatus, StartInstance
from kong_pdk.wire.interface import EXTENDED, STOCK, Interface
from kong_pdk.wire.msgpack_codec import Messages, Response, encode_request, step_method
from kong_pdk.wire.pdk_values.protobuf_arguments import decode_arguments
from kong_pdk.wire.pdk_values.protobuf_results import encode_result
from kong_pdk.wire.protobuf_codec import Frames

Answers = dict[str, Any]  # PDK method -> value, or a function of its arguments; REFUSED, ENDS
REFUSED = object()
DEADLINE = 20.0


class Closed(Exception):
    """The server closed the connection."""


class FakeKong:
    """One connection to a plugin server."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(str(path))
        self.made: list[tuple[str, list[Any]]] = []

    def close(self) -> None:
        self.socket.close()

    def receive(self) -> bytes:
        data = self.socket.recv(65536)
        if not data:
            raise Closed
        return data

    def start(self, name: str, config: dict[str, Any] | None = None) -> int:
        raise NotImplementedError

    def event(self, instance: int, phase: str, answers: Answers | None = None) -> bool:
        """Let a handler run; True if it came to its end, False if the request ended before."""
        raise NotImplementedError

    def answer(self, method: str, args: list[Any], answers: Answers | None) -> Any:
        self.made.append((method, args))
        if method in ("kong.response.exit", "kong.response.error"):
            return REFUSED
        value = (answers or {}).get(method)
        return value(*args) if callable(value) else value


class ProtobufKong(FakeKong):
    """ProtoBuf:1."""

    name = "ProtoBuf:1"

    def __init__(self, path: Path, interface: Interface = STOCK) -> None:
        self.interface = interface
        self.wire_names: list[str] = []
        super().__init__(path)
        self._frames = Frames()
        self._ready: list[bytes] = []
        self._sequence = 0

    def read(self) -> bytes:
        while not self._ready:
            self._ready += self._frames.feed(self.receive())
        return self._ready.pop(0)

    def send(self, call: Call) -> int:
        self._sequence += 1
        self.socket.sendall(protobuf_codec.frame(protobuf_codec.encode_call(self._sequence, call)))
        return self._sequence

    def ask(self, call: Call) -> Any:
        sequence = self.send(call)
        answered, answer = protobuf_codec.decode_return(self.read())
        assert answered == sequence
        return answer

    def start(self, name: str, config: dict[str, Any] | None = None) -> int:
        status = self.ask(StartInstance(name, json.dumps(config or {}).encode()))
        assert isinstance(status, InstanceStatus)
        return status.instance_id

    def close_instance(self, instance: int) -> None:
        self.ask(CloseInstance(instance))

    def event(self, instance: int, phase: str, answers: Answers | None = None) -> bool:
        sequence = self.send(HandleEvent(instance, phase))
        while name := self.read().decode():
            self.wire_names.append(name)
            method = self.interface.method(name)
            value = self.answer(method.function, decode_arguments(method, self.read()), answers)
            if value is REFUSED:
                self.socket.shutdown(socket.SHUT_WR)
                return False
            self.socket.sendall(protobuf_codec.frame(encode_result(method, value)))
        assert protobuf_codec.decode_return(self.read()) == (sequence, None)
        return True


class ExtendedKong(ProtobufKong):
    """ProtoBuf:1 with our extension in the interface file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, EXTENDED)


class RpcError(Exception):
    """The server answered with an error."""


class MsgpackKong(FakeKong):
    """MsgPack:1."""

    name = "MsgPack:1"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._messages = Messages()
        self._ready: list[Any] = []
        self._id = 0

    def ask(self, method: str, *args: Any) -> Any:
        self._id += 1
        self.socket.sendall(encode_request(self._id, method, args))
        while not self._ready:
            self._ready += self._messages.feed(self.receive())
        response = self._ready.pop(0)
        assert isinstance(response, Response) and response.id == self._id
        if response.error is not None:
            raise RpcError(response.error)
        return response.result

    def start(self, name: str, config: dict[str, Any] | None = None) -> int:
        id = self.ask("plugin.StartInstance", {"Name": name, "Config": json.dumps(config or {})})["Id"]
        assert isinstance(id, int)
        return id

    def close_instance(self, instance: int) -> None:
        self.ask("plugin.CloseInstance", instance)

    def event(self, instance: int, phase: str, answers: Answers | None = None) -> bool:
        output = self.ask("plugin.HandleEvent", {"InstanceId": instance, "EventName": phase})
        while output["Data"] != "ret":
            call = output["Data"]
            value = self.answer(call["Method"], call["Args"], answers)
            if value is REFUSED:
                return False
            step = {"EventId": output["EventId"]}
            if value is not None:
                step["Data"] = value
            output = self.ask(step_method(call["Method"]), step)
        return True


Connect = Callable[[], FakeKong]
