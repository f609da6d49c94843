"""Kong's side of the wire, on blocking sockets: enough of it to drive a plugin server, one shape for both protocols.

What a test wants to send and see byte by byte goes through ``socket``, ``receive`` and ``ProtobufKong.read``.
"""

from __future__ import annotations

import json
import socket
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from kong_pdk.wire.calls import Call, CloseInstance, HandleEvent, InstanceStatus, StartInstance
from kong_pdk.wire.interface import EXTENDED, STOCK, Interface
from kong_pdk.wire.kong_side import Answered, MsgpackSide, PdkCall, ProtobufSide, pdk_call
from kong_pdk.wire.msgpack_codec import Response
from kong_pdk.wire.pdk_values.protobuf_arguments import decode_arguments
from kong_pdk.wire.pdk_values.protobuf_results import encode_result
from waiting import DEADLINE

Answers = dict[str, Any]  # PDK method -> value, or a function of its arguments; REFUSED
REFUSED = object()


class Closed(Exception):
    """The server closed the connection."""


class RpcError(Exception):
    """The server answered with an error."""


class FakeKong(ABC):
    """One connection to a plugin server. ``made`` lists the PDK calls that the server wanted."""

    name: str

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(str(path))
        self.made: list[tuple[str, list[Any]]] = []
        self._number = 0

    def close(self) -> None:
        self.socket.close()

    def receive(self) -> bytes:
        data = self.socket.recv(65536)
        if not data:
            raise Closed
        return data

    @abstractmethod
    def start(self, name: str, config: dict[str, Any] | None = None) -> int:
        """Start an instance; its id."""

    @abstractmethod
    def close_instance(self, instance: int) -> None: ...

    @abstractmethod
    def event(self, instance: int, phase: str, answers: Answers | None = None) -> bool:
        """Let a handler run; True if it came to its end, False if the request ended before."""

    def status(self) -> int:
        """The status that the last PDK call, an exit or an error, gave to the client."""
        name, args = self.made[-1]
        assert name in ("kong.response.exit", "kong.response.error")
        return int(args[0])

    def next_number(self) -> int:
        """A message id or sequence number."""
        self._number += 1
        return self._number

    def value(self, method: str, args: list[Any], answers: Answers | None) -> Any:
        """The value of a PDK call; REFUSED where Kong says nothing any more."""
        self.made.append((method, args))
        if method in ("kong.response.exit", "kong.response.error"):
            return REFUSED
        value = (answers or {}).get(method)
        return value(*args) if callable(value) else value


class ProtobufKong(FakeKong):
    """ProtoBuf:1."""

    name = "ProtoBuf:1"

    def __init__(self, path: Path, interface: Interface = STOCK) -> None:
        super().__init__(path)
        self.interface = interface
        self.wire_names: list[str] = []
        self.side = ProtobufSide()

    def read(self) -> bytes:
        """The next frame, whatever it says."""
        while (frame := self.side.next_frame()) is None:
            self.side.feed(self.receive())
        return frame

    def next(self) -> PdkCall | Answered:
        """The next thing that the server says."""
        while (said := self.side.next()) is None:
            self.side.feed(self.receive())
        return said

    def send(self, call: Call) -> None:
        self.socket.sendall(self.side.call(self.next_number(), call))

    def reply(self, result: bytes) -> None:
        self.socket.sendall(self.side.reply(result))

    def answer(self) -> Any:
        """The answer to a call that is no event, or of an event that makes no PDK calls any more."""
        said = self.next()
        assert isinstance(said, Answered), said
        return said.answer

    def ask(self, call: Call) -> Any:
        self.send(call)
        return self.answer()

    def start(self, name: str, config: dict[str, Any] | None = None) -> int:
        status = self.ask(StartInstance(name, json.dumps(config or {}).encode()))
        assert isinstance(status, InstanceStatus)
        return status.instance_id

    def close_instance(self, instance: int) -> None:
        self.ask(CloseInstance(instance))

    def event(self, instance: int, phase: str, answers: Answers | None = None) -> bool:
        self.send(HandleEvent(instance, phase))
        while isinstance(said := self.next(), PdkCall):
            self.wire_names.append(said.method)
            method = self.interface.method(said.method)
            value = self.value(method.function, decode_arguments(method, said.arguments), answers)
            if value is REFUSED:
                self.socket.shutdown(socket.SHUT_WR)
                return False
            self.reply(encode_result(method, value))
        assert said.answer is None
        return True


class ExtendedKong(ProtobufKong):
    """ProtoBuf:1 with our extension in the interface file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, EXTENDED)


class MsgpackKong(FakeKong):
    """MsgPack:1."""

    name = "MsgPack:1"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.side = MsgpackSide()

    def result(self, request: bytes) -> Any:
        """Send a request; the result in the server's response. Notifications are skipped."""
        self.socket.sendall(request)
        while not isinstance(message := self.side.next(), Response):
            if message is None:
                self.side.feed(self.receive())
        if message.error is not None:
            raise RpcError(message.error)
        return message.result

    def ask(self, method: str, *args: Any) -> Any:
        return self.result(self.side.request(self.next_number(), method, *args))

    def start(self, name: str, config: dict[str, Any] | None = None) -> int:
        id = self.ask("plugin.StartInstance", {"Name": name, "Config": json.dumps(config or {})})["Id"]
        assert isinstance(id, int)
        return id

    def close_instance(self, instance: int) -> None:
        self.ask("plugin.CloseInstance", instance)

    def event(self, instance: int, phase: str, answers: Answers | None = None) -> bool:
        output = self.ask("plugin.HandleEvent", {"InstanceId": instance, "EventName": phase})
        while (call := pdk_call(output)) is not None:
            value = self.value(call.method, call.arguments, answers)
            if value is REFUSED:
                return False
            output = self.result(self.side.step(self.next_number(), call, value))
        return True
