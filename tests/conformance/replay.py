"""Kong's side of a recording, played to a plugin server: the same bytes on as many connections, in the same order.

What a run makes up is mapped: instance ids, event ids, message ids and sequence numbers. Everything else of Kong's
bytes stays as it was recorded.
"""

from __future__ import annotations

import json
import socket
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from conformance.frames import NOTHING, Close, Event, HangUp, Item, Start, Step
from conformance.notes import Noted, Notes, expected
from conformance.recordings import HTTP, Case, Recording
from conformance.run_ids import with_ids, with_sequence
from conformance.script import Difference, Script
from kong_pdk.wire import calls, msgpack_codec, protobuf_codec

DEADLINE = 20.0
PROBE = "probe"


class Replay(ABC):
    """Plays the cases of one recording to one server."""

    def __init__(self, recording: Recording, server: Path, notes: Notes) -> None:
        """:param server: its socket; notes: what its probe writes."""
        self._recording = recording
        self._server = server
        self._notes = notes
        self._connections: dict[int, socket.socket] = {}
        self._instances: dict[int, int] = {}
        self._number = 0

    def play(self, case: Case) -> None:
        """Play a case.

        :raises Difference: the server did, or its handler got, something else than was recorded.
        """
        try:
            for item in case.items:
                if self._play(case, item):
                    self.close()
                    break
        except BaseException:
            self.close()
            raise
        self._compare(case)

    def close(self) -> None:
        """Close all connections, as a Kong does that ends."""
        for conn in list(self._connections):
            self.hang_up(conn)

    def hang_up(self, conn: int) -> None:
        """Close a connection, if it is open."""
        connection = self._connections.pop(conn, None)
        if connection is not None:
            connection.close()

    def _play(self, case: Case, item: Item) -> bool:
        """Play one thing that Kong did; whether the rest of the case is of no use."""
        if isinstance(item, HangUp):
            self.hang_up(item.conn)
        elif isinstance(item, Start):
            self._start(item)
        elif isinstance(item, Close):
            self._close(item, self._instance(case, item.id))
        else:
            script = Script(case, item, self._server.parent)
            self._event(item, self._instance(case, item.instance), script)
            return script.cut
        return False

    def _instance(self, case: Case, recorded: int) -> int:
        if recorded not in self._instances:
            self._start(self._recording.start_of(recorded, case) or self._made_up_start(recorded, case))
        return self._instances[recorded]

    def _made_up_start(self, recorded: int, case: Case) -> Start:
        """A StartInstance for cases that were recorded after it."""
        config = json.dumps({"note": "", "__seq__": 1, **self._settings(case)}).encode()
        return Start(case.items[0].conn, self._raw_start(config), PROBE, config, recorded)

    @staticmethod
    def _settings(case: Case) -> dict[str, Any]:
        return {"note": json.dumps({"case": case.id, **case.orders})} if case.kind != HTTP else {}

    def _start(self, item: Start) -> None:
        name, id = self._ask_to_start(item)
        if name != item.name:
            raise Difference(f"StartInstance of {item.name!r} was answered for {name!r}")
        if item.id is not None:
            self._instances[item.id] = id

    def _compare(self, case: Case) -> None:
        wanted = expected(case)
        noted = self._notes.of(case, len(wanted.noted))
        if wanted.differs(noted):
            recorded = _listed(wanted.noted)
            raise Difference(f"{case.name}: the handler got {_listed(noted)}\n\nbut the recorded one{recorded}")

    def connection(self, conn: int) -> socket.socket:
        """The connection that stands for a recorded one."""
        if conn not in self._connections:
            opened = self._connections[conn] = socket.socket(socket.AF_UNIX)
            opened.settimeout(DEADLINE)
            opened.connect(str(self._server))
            self.opened(conn)
        return self._connections[conn]

    def number(self) -> int:
        """A message id or sequence number of this run."""
        self._number += 1
        return self._number

    def receive(self, conn: int) -> bytes:
        """What comes next on a connection."""
        try:
            data = self.connection(conn).recv(65536)
        except TimeoutError:
            raise Difference(f"the server says nothing for {DEADLINE:g} s") from None
        if not data:
            raise Difference("the server closed the connection")
        return data

    @abstractmethod
    def opened(self, conn: int) -> None:
        """A connection is new."""

    @abstractmethod
    def _raw_start(self, config: bytes) -> bytes: ...

    @abstractmethod
    def _ask_to_start(self, item: Start) -> tuple[str, int]: ...

    @abstractmethod
    def _close(self, item: Close, instance: int) -> None: ...

    @abstractmethod
    def _event(self, item: Event, instance: int, script: Script) -> None: ...


def _listed(noted: list[Noted]) -> str:
    return "".join(f"\n  {note}" for note in noted) or " nothing"


class MsgpackReplay(Replay):
    """Over MsgPack:1."""

    def __init__(self, recording: Recording, server: Path, notes: Notes) -> None:
        super().__init__(recording, server, notes)
        self._received: dict[int, msgpack_codec.Messages] = {}

    def opened(self, conn: int) -> None:
        self._received[conn] = msgpack_codec.Messages()

    def _raw_start(self, config: bytes) -> bytes:
        return msgpack_codec.encode_request(0, "plugin.StartInstance", [{"Name": PROBE, "Config": config.decode()}])

    def _ask_to_start(self, item: Start) -> tuple[str, int]:
        result = self._ask(item.conn, item.raw)
        return result["Name"], result["Id"]

    def _close(self, item: Close, instance: int) -> None:
        self._ask(item.conn, item.raw, argument=instance)

    def _event(self, item: Event, instance: int, script: Script) -> None:
        result = self._ask(item.conn, item.raw, InstanceId=instance)
        while result["Data"] != "ret":
            call, event = result["Data"], result["EventId"]
            step: Any = script.over_msgpack(call["Method"], call["Args"])
            if step is NOTHING:
                return
            result = self._ask(step.conn, step.raw or _raw_step(step), EventId=event)
        script.end()

    def _ask(self, conn: int, raw: bytes, **ids: int) -> Any:
        number = self.number()
        self.connection(conn).sendall(with_ids(raw, number, ids))
        while True:
            for message in self._received[conn].feed(self.receive(conn)):
                if isinstance(message, msgpack_codec.Notification):
                    continue
                if not isinstance(message, msgpack_codec.Response) or message.id != number:
                    raise Difference(f"{message} instead of the response {number}")
                if message.error is not None:
                    raise Difference(f"the server answered with an error: {message.error}")
                return message.result


def _raw_step(step: Step) -> bytes:
    data = {} if step.data is NOTHING else {"Data": step.data}
    return msgpack_codec.encode_request(0, step.method, [{"EventId": 0, **data}])


class ProtobufReplay(Replay):
    """Over ProtoBuf:1."""

    def __init__(self, recording: Recording, server: Path, notes: Notes) -> None:
        super().__init__(recording, server, notes)
        self._frames: dict[int, protobuf_codec.Frames] = {}
        self._ready: dict[int, list[bytes]] = {}

    def opened(self, conn: int) -> None:
        self._frames[conn], self._ready[conn] = protobuf_codec.Frames(), []

    def _raw_start(self, config: bytes) -> bytes:
        return protobuf_codec.encode_call(1, calls.StartInstance(PROBE, config))

    def _ask_to_start(self, item: Start) -> tuple[str, int]:
        answer = self._return(item.conn, self._call(item.conn, item.raw))
        if not isinstance(answer, calls.InstanceStatus):
            raise Difference(f"StartInstance was answered by {answer}")
        return answer.name, answer.instance_id

    def _close(self, item: Close, instance: int) -> None:
        self._return(item.conn, self._call(item.conn, item.raw, instance))

    def _event(self, item: Event, instance: int, script: Script) -> None:
        sequence = self._call(item.conn, item.raw, instance)
        while name := self._read(item.conn).decode():
            answer = script.over_protobuf(name, self._read(item.conn))
            if not isinstance(answer, bytes):
                self._end_of_request(item.conn)
                return
            self._send(item.conn, answer)
        if self._return(item.conn, sequence) is not None:
            raise Difference("an event was answered by more than its sequence number")
        script.end()

    def _end_of_request(self, conn: int) -> None:
        """Kong closes the connection; nothing more is to come, and the server closes it too."""
        self.connection(conn).shutdown(socket.SHUT_WR)
        rest = self._ready[conn]
        while data := self.connection(conn).recv(65536):
            rest += self._frames[conn].feed(data)
        self.hang_up(conn)
        if rest:
            raise Difference(f"the server went on after a call that Kong does not answer: {rest}")

    def _call(self, conn: int, raw: bytes, instance: int | None = None) -> int:
        sequence = self.number()
        self._send(conn, with_sequence(raw, sequence, instance))
        return sequence

    def _return(self, conn: int, sequence: int) -> Any:
        answered, answer = protobuf_codec.decode_return(self._read(conn))
        if answered != sequence:
            raise Difference(f"the call {sequence} was answered as {answered}")
        return answer

    def _send(self, conn: int, payload: bytes) -> None:
        self.connection(conn).sendall(protobuf_codec.frame(payload))

    def _read(self, conn: int) -> bytes:
        self.connection(conn)
        while not self._ready[conn]:
            self._ready[conn] += self._frames[conn].feed(self.receive(conn))
        return self._ready[conn].pop(0)


REPLAYS: dict[str, type[Replay]] = {"MsgPack:1": MsgpackReplay, "ProtoBuf:1": ProtobufReplay}
