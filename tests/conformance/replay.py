"""Kong's side of a recording, played to a plugin server: the same bytes on as many connections, in the same order.

The ids that our server gives to instances and events replace the recorded ones. All other bytes of Kong stay as
recorded.
"""

from __future__ import annotations

import json
import socket
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from conformance.frames import NoAnswer, Sent, Step
from conformance.handler_results import Results, expected
from conformance.kong_answers import Difference, KongAnswers
from conformance.recordings import HTTP, Case, Recording
from fake_kong import Closed, FakeKong, MsgpackKong, ProtobufKong, RpcError
from kong_pdk.wire import msgpack_codec, protobuf_codec
from kong_pdk.wire.calls import CloseInstance, HandleEvent, InstanceStatus, StartInstance
from kong_pdk.wire.kong_side import PdkCall, pdk_call
from kong_pdk.wire.messages import message_class
from kong_pdk.wire.wire_errors import WireError
from msgpack import packb, unpackb

PROBE = "probe"


class Replay(ABC):
    """Plays the cases of one recording to one server."""

    kind: type[Any]

    def __init__(self, recording: Recording, server: Path, results: Results) -> None:
        """:param server: its socket; results: the file that its probe writes."""
        self._recording = recording
        self._server = server
        self._results = results
        self._connections: dict[int, FakeKong] = {}
        self._instances: dict[int | None, int] = {}

    def play(self, case: Case) -> None:
        """Play a case.

        :raises Difference: the server's calls or its handler's results differ from the recording.
        """
        try:
            for sent in case.sent:
                if self._play(case, sent):
                    self.close()
                    break
        except (Closed, TimeoutError, RpcError, WireError) as error:
            self.close()
            raise Difference(f"the server: {type(error).__name__} {error}") from error
        except BaseException:
            self.close()
            raise
        expected_results = expected(case)
        noted = self._results.of(case, len(expected_results.noted))
        if expected_results.differs(noted):
            ours, theirs = ("".join(f"\n  {note}" for note in notes) for notes in (noted, expected_results.noted))
            raise Difference(f"{case.name}: the handler got {ours}\n\nbut the recorded one {theirs}")

    def close(self) -> None:
        """Close all connections, as an ending Kong does."""
        for conn in list(self._connections):
            self.hang_up(conn)

    def hang_up(self, conn: int) -> None:
        """Close a connection, if it is open."""
        if conn in self._connections:
            self._connections.pop(conn).close()

    def kong(self, conn: int) -> Any:
        """Give the connection that stands for a recorded one."""
        if conn not in self._connections:
            self._connections[conn] = self.kind(self._server)
        return self._connections[conn]

    def _play(self, case: Case, sent: Sent) -> bool:
        """Play one step of Kong; whether the rest of the case cannot be used."""
        if sent.call is None:
            self.hang_up(sent.conn)
        elif isinstance(sent.call, StartInstance):
            self._start(sent)
        elif isinstance(sent.call, CloseInstance):
            self._close(sent, self._instance(case, sent.instance))
        else:
            answers = KongAnswers(case, sent, self._server.parent)
            if self._event(sent, self._instance(case, sent.instance), answers):
                answers.end()
            return answers.cut
        return False

    def _instance(self, case: Case, recorded: int | None) -> int:
        if recorded not in self._instances:
            self._start(self._recording.start_of(recorded, case) or self._start_for(case, recorded))
        return self._instances[recorded]

    def _start_for(self, case: Case, recorded: int | None) -> Sent:
        """Find a StartInstance for cases that were recorded after it."""
        note = json.dumps({"case": case.id, **case.orders}) if case.kind != HTTP else ""
        call = StartInstance(PROBE, json.dumps({"note": note, "__seq__": 1}).encode())
        return Sent(case.sent[0].conn, self._raw(call), call, recorded)

    def _start(self, sent: Sent) -> None:
        name, instance = self._ask_to_start(sent)
        assert isinstance(sent.call, StartInstance)
        if name != sent.call.name:
            raise Difference(f"StartInstance of {sent.call.name!r} was answered for {name!r}")
        if sent.instance is not None:
            self._instances[sent.instance] = instance

    @abstractmethod
    def _raw(self, call: StartInstance) -> bytes: ...

    @abstractmethod
    def _ask_to_start(self, sent: Sent) -> tuple[str, int]: ...

    @abstractmethod
    def _close(self, sent: Sent, instance: int) -> None: ...

    @abstractmethod
    def _event(self, sent: Sent, instance: int, answers: KongAnswers) -> bool:
        """Play an event; whether the handler ended."""


class MsgpackReplay(Replay):
    kind = MsgpackKong

    def _raw(self, call: StartInstance) -> bytes:
        return msgpack_codec.encode_request(
            0, "plugin.StartInstance", [{"Name": call.name, "Config": call.config.decode()}]
        )

    def _ask_to_start(self, sent: Sent) -> tuple[str, int]:
        result = self._ask(sent.conn, sent.raw)
        return result["Name"], result["Id"]

    def _close(self, sent: Sent, instance: int) -> None:
        recorded = packb([sent.instance])
        assert sent.raw.endswith(recorded)
        self._ask(sent.conn, sent.raw.removesuffix(recorded) + packb([instance]))

    def _event(self, sent: Sent, instance: int, answers: KongAnswers) -> bool:
        output = self._ask(sent.conn, with_id(sent.raw, "InstanceId", instance))
        while (call := pdk_call(output)) is not None:
            step = answers.over_msgpack(call.method, call.arguments)
            if not isinstance(step, Step):
                return False
            raw = step.raw or _raw_step(step)
            output = self._ask(step.conn, with_id(raw, "EventId", call.event))
        return True

    def _ask(self, conn: int, raw: bytes) -> Any:
        kong: MsgpackKong = self.kong(conn)
        _, number, *_ = unpackb(raw, raw=True, strict_map_key=False)
        return kong.result(kong.side.send(raw, number))


def _raw_step(step: Step) -> bytes:
    data = {"Data": step.data} if not isinstance(step.data, NoAnswer) else {}
    return msgpack_codec.encode_request(0, step.method, [{"EventId": 0, **data}])


def with_id(raw: bytes, key: str, id: object) -> bytes:
    """Give a recorded request with an id of this run; every other byte is as Kong wrote it."""
    (argument,) = unpackb(raw, unicode_errors="surrogateescape", strict_map_key=False)[3]
    recorded = packb(key) + packb(argument[key])
    assert raw.count(recorded) == 1, (raw, key)
    return raw.replace(recorded, packb(key) + packb(id))


class ProtobufReplay(Replay):
    kind = ProtobufKong

    def _raw(self, call: StartInstance) -> bytes:
        return protobuf_codec.encode_call(1, call)

    def _ask_to_start(self, sent: Sent) -> tuple[str, int]:
        status = self._send(sent.conn, sent.raw).answer()
        if not isinstance(status, InstanceStatus):
            raise Difference(f"StartInstance was answered by {status}")
        return status.name, status.instance_id

    def _close(self, sent: Sent, instance: int) -> None:
        self._send(sent.conn, with_instance(sent.raw, instance)).answer()

    def _event(self, sent: Sent, instance: int, answers: KongAnswers) -> bool:
        kong = self._send(sent.conn, with_instance(sent.raw, instance))
        while isinstance(call := kong.next(), PdkCall):
            answer = answers.over_protobuf(call.method, call.arguments)
            if not isinstance(answer, bytes):
                self._end_of_request(sent.conn, kong)
                return False
            kong.reply(answer)
        if call.answer is not None:
            raise Difference("an event was answered by more than its sequence number")
        return True

    def _end_of_request(self, conn: int, kong: ProtobufKong) -> None:
        """Close the connection as Kong does; the server must send nothing more and close it too."""
        kong.socket.shutdown(socket.SHUT_WR)
        while data := kong.socket.recv(65536):
            kong.side.feed(data)
        self.hang_up(conn)
        if (frame := kong.side.next_frame()) is not None:
            raise Difference(f"the server went on after a call that Kong does not answer: {frame!r}")

    def _send(self, conn: int, raw: bytes) -> ProtobufKong:
        kong: ProtobufKong = self.kong(conn)
        sequence, call = protobuf_codec.decode_call(raw)
        kong.socket.sendall(kong.side.send(raw, sequence, isinstance(call, HandleEvent)))
        return kong


def with_instance(raw: bytes, instance: int) -> bytes:
    """Give a recorded HandleEvent or CloseInstance for an instance of this run, with its fields in Kong's order."""
    sequence, call = protobuf_codec.decode_call(raw)
    assert isinstance(call, HandleEvent | CloseInstance)
    number = _message("RpcCall", sequence=sequence)
    command = raw.removeprefix(number) if raw.startswith(number) else raw.removesuffix(number)
    tag, content = command[:2], command[3:]  # These commands are short: their length is one byte.
    old, new = (_message("CmdHandleEvent", instance_id=id) for id in (call.instance_id, instance))
    content = new + content.removeprefix(old) if content.startswith(old) else content.removesuffix(old) + new
    command = tag + bytes([len(content)]) + content
    return number + command if raw.startswith(number) else command + number


def _message(name: str, **fields: int) -> bytes:
    return bytes(message_class(name)(**fields).SerializeToString())


REPLAYS: dict[str, type[Replay]] = {"MsgPack:1": MsgpackReplay, "ProtoBuf:1": ProtobufReplay}
