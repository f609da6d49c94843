"""Kong's side of a recording, played to a plugin server: the same bytes on as many connections, in the same order.

The ids that our server gives to instances and events replace the recorded ones. All other bytes of Kong stay as
recorded.
"""

from __future__ import annotations

import json
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from conformance.frames import UNREADABLE, NoAnswer, PdkCall, Sent, Step
from conformance.known_differences import OtherCall, other_call
from conformance.probe_results import Results, difference
from conformance.recordings import HTTP, Case, Recording
from conformance.values import arguments, arguments_of, convert, exact_twin, typed
from fake_kong import Closed, FakeKong, MsgpackKong, ProtobufKong, RpcError
from kong_pdk.wire import kong_side, msgpack_codec, protobuf_codec
from kong_pdk.wire.calls import CloseInstance, HandleEvent, InstanceStatus, StartInstance
from kong_pdk.wire.interface import EXTENDED, STOCK, as_text
from kong_pdk.wire.messages import message_class
from kong_pdk.wire.pdk_functions import METHODS, Method
from kong_pdk.wire.pdk_values.arguments import EXITS
from kong_pdk.wire.pdk_values.protobuf_results import RawBody, decode_result, encode_result
from kong_pdk.wire.wire_errors import WireError
from msgpack import packb, unpackb
from server_process import serving

# In log Kong answers these from its copy of the request, only by their dotted names.
_NOT_IN_LOG = ("kong/request/", "kong/response/", "kong/service/response/")


class Difference(AssertionError):
    """Our server did something that the recorded one did not do."""


class Answers:
    """Kong's part in one event: the recorded answers, in order, to the calls of our server."""

    def __init__(self, case: Case, event: Sent) -> None:
        self.case = case
        self.event = event
        self.is_unreadable = False
        self._last: PdkCall | None = None
        self._is_beyond = False
        failed = case.failed_result(event.phase)
        self._is_part = failed is not None
        self._recorded = deque(event.pdk_calls[: None if failed is None else failed + case.orders_come_first])

    @property
    def is_cut(self) -> bool:
        """Whether the rest of the case is of no use, since the recording server failed here."""
        return self.is_unreadable or (self._is_part and not self._recorded)

    def next(self, function: str, args: list[Any]) -> PdkCall | OtherCall | None:
        """The recorded call that our server makes now, or Kong's answer to another one; None where the recording
        tells nothing any more.

        :raises Difference: it may not make this call.
        """
        if self.is_cut or self._is_beyond:
            return None
        recorded = self._recorded[0] if self._recorded else None
        other = other_call(self.case, self.event.phase, (function, args), recorded, self._last)
        same = recorded and function == recorded.function and typed(args) == typed(arguments_of(recorded))
        if recorded and same and not (recorded.refused and other):
            return self._take()
        if other is None:
            wanted = _described(recorded) if recorded else "no call"
            raise self.difference(f"{function}{tuple(args)} was called, {wanted} was recorded")
        if other.instead:
            self._is_beyond = self._take().refused  # Kong's handler came no further
        return other

    def end(self) -> None:
        """Take the end of the handler.

        :raises Difference: a recorded call is missing. A call that Kong refused may be missing: the probe notes
            that it was refused before it was sent.
        """
        if self._recorded and not self._recorded[0].refused:
            raise self.difference(f"the handler ended, {_described(self._recorded[0])} was recorded")

    def difference(self, text: str) -> Difference:
        return Difference(f"{self.case.name}, {self.event.phase}: {text}")

    def _take(self) -> PdkCall:
        self._last = self._recorded.popleft()
        return self._last


def _described(call: PdkCall) -> str:
    return f"{call.method}{tuple(arguments_of(call))}"


class Replay(ABC):
    """Plays the cases of one recording to one server, of which it has the socket and what its probe writes."""

    def __init__(self, server: Path, results: Results) -> None:
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
        except BaseException as error:
            self.close()
            if isinstance(error, (Closed, TimeoutError, RpcError, WireError)):
                raise Difference(f"the server: {type(error).__name__} {error}") from error
            raise
        if found := difference(case, self._results):
            raise Difference(found)

    def close(self) -> None:
        """Close all connections, as an ending Kong does."""
        for conn in list(self._connections):
            self._hang_up(conn)

    def _hang_up(self, conn: int) -> None:
        if conn in self._connections:
            self._connections.pop(conn).close()

    def _kong(self, conn: int, kind: type[Any]) -> Any:
        """Give the connection that stands for a recorded one."""
        if conn not in self._connections:
            self._connections[conn] = kind(self._server)
        return self._connections[conn]

    def _play(self, case: Case, sent: Sent) -> bool:
        """Play one step of Kong; whether the rest of the case cannot be used."""
        if sent.call is None:
            self._hang_up(sent.conn)
        elif isinstance(sent.call, StartInstance):
            self._start(sent.call, sent)
        elif isinstance(sent.call, CloseInstance):
            self._close_instance(sent, self._instance(case, sent.instance))
        else:
            answers = Answers(case, sent)
            if self._event(sent, self._instance(case, sent.instance), answers):
                answers.end()
            return answers.is_cut
        return False

    def _instance(self, case: Case, recorded: int | None) -> int:
        """The id of a recorded instance in this run. It is started where its case was recorded after its start."""
        if recorded not in self._instances:
            note = json.dumps({"case": case.id, **case.orders}) if case.kind != HTTP else ""
            call = StartInstance("probe", json.dumps({"note": note, "__seq__": 1}).encode())
            start = case.recording.start_of(recorded, case)
            self._start(call, start or Sent(case.sent[0].conn, self.start_request(call), call, recorded))
        return self._instances[recorded]

    def _start(self, call: StartInstance, sent: Sent) -> None:
        name, instance = self._start_instance(sent)
        if name != call.name:
            raise Difference(f"StartInstance of {call.name!r} was answered for {name!r}")
        self._instances[sent.instance] = instance

    @staticmethod
    @abstractmethod
    def start_request(call: StartInstance) -> bytes:
        """A request that was not recorded."""

    @abstractmethod
    def _start_instance(self, sent: Sent) -> tuple[str, int]:
        """The name and the id that the server answers."""

    @abstractmethod
    def _close_instance(self, sent: Sent, instance: int) -> None: ...

    @abstractmethod
    def _event(self, sent: Sent, instance: int, answers: Answers) -> bool:
        """Play an event; whether the handler ended."""


class MsgpackReplay(Replay):
    """Over MsgPack:1."""

    @staticmethod
    def start_request(call: StartInstance) -> bytes:
        argument = {"Name": call.name, "Config": call.config.decode()}
        return msgpack_codec.encode_request(0, "plugin.StartInstance", [argument])

    def _start_instance(self, sent: Sent) -> tuple[str, int]:
        result = self._ask(sent.conn, sent.raw)
        return result["Name"], result["Id"]

    def _close_instance(self, sent: Sent, instance: int) -> None:
        recorded = packb([sent.instance])
        assert sent.raw.endswith(recorded)
        self._ask(sent.conn, sent.raw.removesuffix(recorded) + packb([instance]))

    def _event(self, sent: Sent, instance: int, answers: Answers) -> bool:
        output = self._ask(sent.conn, with_id(sent.raw, "InstanceId", instance))
        while (call := kong_side.pdk_call(output)) is not None:
            step = answers.next(call.method, call.arguments)
            if isinstance(step, PdkCall):
                step = step.answer
            elif isinstance(step, OtherCall):
                step = Step(msgpack_codec.step_method(call.method), step.answer, sent.conn)
            if not isinstance(step, Step):
                return False
            output = self._ask(step.conn, with_id(step.raw or _raw_step(step), "EventId", call.event))
        return True

    def _ask(self, conn: int, raw: bytes) -> Any:
        kong: MsgpackKong = self._kong(conn, MsgpackKong)
        _, number, *_ = unpackb(raw, raw=True, strict_map_key=False)
        return kong.result(kong.side.raw_request(raw, number))


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
    """Over ProtoBuf:1."""

    @staticmethod
    def start_request(call: StartInstance) -> bytes:
        return protobuf_codec.encode_call(1, call)

    def _start_instance(self, sent: Sent) -> tuple[str, int]:
        status = self._send(sent.conn, sent.raw).answer()
        if not isinstance(status, InstanceStatus):
            raise Difference(f"StartInstance was answered by {status}")
        return status.name, status.instance_id

    def _close_instance(self, sent: Sent, instance: int) -> None:
        self._send(sent.conn, with_instance(sent.raw, instance)).answer()

    def _event(self, sent: Sent, instance: int, answers: Answers) -> bool:
        kong = self._send(sent.conn, with_instance(sent.raw, instance))
        while isinstance(said := kong.next(), kong_side.PdkCall):
            method = _callable(said.method, answers)
            found = answers.next(method.function, arguments(method, said.arguments))
            if isinstance(found, OtherCall):
                kong.reply(encode_result(method, found.answer))
            elif found and isinstance(found.answer, bytes):
                kong.reply(self._answer(method, found, answers))
            else:
                answers.is_unreadable = found is not None and found.answer is UNREADABLE
                self._end_of_request(sent.conn, kong, method)
                return False
        if said.answer is not None:
            raise Difference("an event was answered by more than its sequence number")
        return True

    def _answer(self, method: Method, recorded: PdkCall, answers: Answers) -> bytes:
        answer = convert(exact_twin(answers.event, recorded) or recorded, method)
        if method.output != "RawBodyResult" or decode_result(method, answer).path is None:
            return answer
        file = self._server.parent / "body"  # the path of a large body is that of a file that is there
        file.write_bytes(answers.case.body)
        return encode_result(method, RawBody(path=str(file)))

    def _end_of_request(self, conn: int, kong: ProtobufKong, last: Method) -> None:
        """Close the connection as Kong does; the server must close it too.

        What the server sent together with a call without a result, Kong leaves unread. After any other call it must
        send nothing more.
        """
        kong.socket.shutdown(socket.SHUT_WR)
        while data := kong.socket.recv(65536):
            kong.side.feed(data)
        self._hang_up(conn)
        is_void = last.output == "Empty" and last.function not in EXITS
        if not is_void and (frame := kong.side.next_frame()) is not None:
            raise Difference(f"the server went on after a call that Kong does not answer: {frame!r}")

    def _send(self, conn: int, raw: bytes) -> ProtobufKong:
        kong: ProtobufKong = self._kong(conn, ProtobufKong)
        sequence, call = protobuf_codec.decode_call(raw)
        kong.socket.sendall(kong.side.raw_call(raw, sequence, isinstance(call, HandleEvent)))
        return kong


def _callable(name: str, answers: Answers) -> Method:
    """Check that a Kong with this interface answers this method in this phase."""
    method = METHODS.get(name)
    if method is None or (method.extended and not answers.case.recording.extended):
        raise answers.difference(f"{name} is no method of this Kong's interface file")
    if answers.event.phase == "log" and name.startswith(_NOT_IN_LOG):
        raise answers.difference(f"{name}, of which Kong has saved nothing under this name for log")
    return method


def with_instance(raw: bytes, instance: int) -> bytes:
    """Give a recorded HandleEvent or CloseInstance for an instance of this run, with its fields in Kong's order."""
    sequence, call = protobuf_codec.decode_call(raw)
    assert isinstance(call, HandleEvent | CloseInstance)
    number = message_class("RpcCall")(sequence=sequence).SerializeToString()
    command = raw.removeprefix(number) if raw.startswith(number) else raw.removesuffix(number)
    tag, content = (command[:2], command[3:])  # these commands are short: their length is one byte
    old, new = (
        message_class("CmdCloseInstance")(instance_id=id).SerializeToString() for id in (call.instance_id, instance)
    )
    content = new + content.removeprefix(old) if content.startswith(old) else content.removesuffix(old) + new
    command = tag + bytes([len(content)]) + content
    return number + command if raw.startswith(number) else command + number


REPLAYS: dict[str, type[Replay]] = {"MsgPack:1": MsgpackReplay, "ProtoBuf:1": ProtobufReplay}


ASYNC = {"asyncio": "loop", "asyncio-processes": "processes", "asyncio-gevent": "gevent"}
"""Modes in which the probe's handlers are ``async def``, and the modes of their servers."""


def _with_async_handlers(probe: str) -> str:
    for plain in ("def run(self", "kong.request.get_header(", "function(*map("):
        assert probe.count(plain) == 1
        probe = probe.replace(plain, f"async {plain}" if plain.startswith("def") else f"await {plain}")
    return probe


class Servers:
    """Our plugin servers of one mode: one for each recording, so that late results are not another's."""

    def __init__(self, mode: str, folder: Path, stack: ExitStack) -> None:
        self.mode = mode
        self._folder = folder
        self._stack = stack
        self._replays: dict[str, Replay] = {}

    def replay(self, case: Case) -> Replay:
        """Give the replay of a case's recording, which continues after the last case."""
        name = case.recording.name
        if name not in self._replays:
            self._replays[name] = REPLAYS[case.protocol](*self._serve(case.recording))
            self._stack.callback(self._replays[name].close)
        return self._replays[name]

    def _serve(self, recording: Recording) -> tuple[Path, Results]:
        folder = self._folder / str(len(self._replays))  # short: a socket's path may have some 100 bytes
        folder.mkdir()
        notes, interface = folder / "notes", folder / "pluginsocket.proto"
        interface.write_text(as_text(EXTENDED if recording.extended else STOCK), "utf-8")
        serve = self._stack.enter_context(serving(folder, ASYNC.get(self.mode, self.mode)))
        probe = (Path(__file__).parent / "plugins/probe.py").read_text("utf-8")
        if self.mode in ASYNC:
            probe = _with_async_handlers(probe)
        served = serve(probe, KONG_PYTHON_INTERFACE_FILE=str(interface), PROBE_NOTES=str(notes))
        results = Results(notes)
        self._stack.callback(results.close)
        return served.socket, results


def servers_of(mode: str, folder: Path) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(mode, folder, stack)
