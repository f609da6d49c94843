"""The connections of a worker that has ended: what Kong gets, for each thing that a connection can be at."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from gevent import monkey
from kong_pdk.server import event_record
from kong_pdk.server.event_record import OPEN, OWED, PHASE_NUMBERS, STATE, RecordTable
from kong_pdk.server.failure_answers import FailureAnswers
from kong_pdk.server.workers import held_connections
from kong_pdk.server.workers.connection_channel import ConnectionChannel, make_channel
from kong_pdk.server.workers.held_connections import Held, HeldConnections
from kong_pdk.wire.calls import HandleEvent, StartInstance
from kong_pdk.wire.interface import EXTENDED
from kong_pdk.wire.msgpack_codec import Messages, Response, encode_request
from kong_pdk.wire.protobuf_codec import Frames, encode_call, event_end, frame
from waiting import DEADLINE, wait_for

if monkey.is_module_patched("threading"):
    pytest.skip("a master has no greenlets", allow_module_level=True)

EXIT = {"Method": "kong.response.exit", "Args": [500]}
FAILURE = {"Method": "kong.response.error", "Args": [500]}
SEQUENCE = b"\x08\x05"
ERROR = b"kong.response.error"


class Worker:
    """A worker, both as its master sees it and as it is itself."""

    def __init__(self) -> None:
        self.channel, own = make_channel()
        self.records = RecordTable()
        self.held: dict[int, Held] = {}
        self.own = ConnectionChannel(own, self.records)

    def end(self) -> None:
        self.own.socket.close()


class Rig:
    """A master's connections, a worker, and one connection of Kong that the worker has accepted."""

    def __init__(self) -> None:
        self.all = HeldConnections(FailureAnswers(EXTENDED), 1024)
        self.worker, self.next = Worker(), Worker()
        self.kong, self.accepted = socket.socketpair()
        self.opened = [self.kong, self.accepted, self.worker.channel, self.worker.own.socket]
        self.kong.settimeout(DEADLINE)
        record = self.worker.own.register(self.accepted)
        assert record is not None
        self.record = record
        self.all.receive(self.worker)

    def end_worker(self) -> None:
        self.accepted.close()
        self.worker.end()
        self.all.worker_ended(self.worker)
        self.all.serve()

    def passed_on(self) -> socket.socket:
        """The connection, as the next worker has it."""
        self.all.pass_on([self.next])
        passed = self.next.own.take()
        assert passed is not None
        self.owed = passed.owed
        record = self.next.own.register(passed.connection, passed.token)
        assert record is not None
        self.all.receive(self.next)
        assert list(self.next.held) == [passed.connection.fileno()]
        self.opened.append(passed.connection)
        return passed.connection

    def settle(self) -> None:
        """Let the time pass in which Kong may go on."""
        wait_for(lambda: (self.all.serve(), self.all.check_deadlines(), not self.all._unsettled)[-1])

    def close(self) -> None:
        for each in (*self.opened, self.next.channel, self.next.own.socket):
            each.close()
        for each in self.all.sockets():
            each.close()
        self.all.close_epoll()


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(held_connections, "SETTLE_SECONDS", 0.05)
    rig = Rig()
    yield rig
    rig.close()


def note(rig: Rig, state: str, phase: str = "access", is_open: bool = False) -> None:
    number = PHASE_NUMBERS[phase] | (OPEN if is_open else 0)
    if state.startswith("PROTOBUF"):
        event_record.note_protobuf_event(rig.record, math.inf, number, SEQUENCE)
    else:
        event_record.note_msgpack_request(rig.record, math.inf, 0, number, 7)
    rig.record[STATE] = getattr(event_record, state)


def test_descriptors_stay_free_for_the_start_of_a_worker(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.all._most = 2
    pairs = [socket.socketpair() for _ in range(3)]
    for _, accepted in pairs:
        assert rig.worker.own.register(accepted) is not None
    rig.all.receive(rig.worker)
    assert len(rig.all.sockets()) == 2
    assert caplog.text.count("Kong has more than 2 connections") == 1
    rig.all.adopt(pairs[2][1].dup())
    assert len(rig.all.sockets()) == 2
    for pair in pairs:
        for each in pair:
            each.close()


def response(rig: Rig) -> Response:
    [message] = Messages().feed(rig.kong.recv(65536))
    assert isinstance(message, Response) and message.id == 7
    return message


def is_ended(rig: Rig) -> bool:
    """Whether the connection is closed; with unread data, as a reset."""
    try:
        return rig.kong.recv(100) == b""
    except ConnectionResetError:
        return True


def calls(rig: Rig) -> list[bytes]:
    return Frames().feed(rig.kong.recv(65536))


def test_an_idle_connection_goes_on_at_the_next_worker(rig: Rig) -> None:
    rig.record[OWED] = 2
    rig.end_worker()
    rig.kong.sendall(b"next")
    assert rig.passed_on().recv(100) == b"next"
    assert rig.owed == 2


@pytest.mark.parametrize("phase", ["rewrite", "access", "response"])
def test_an_event_of_protobuf_ends_with_an_error(rig: Rig, phase: str) -> None:
    note(rig, "PROTOBUF_EVENT", phase)
    rig.end_worker()
    assert calls(rig)[0] == ERROR
    rig.kong.sendall(frame(b"a reply to a call of the handler"))
    rig.all.serve()
    rig.kong.close()
    wait_for(lambda: (rig.all.serve(), not rig.all.are_left)[-1])


@pytest.mark.parametrize(("phase", "is_open"), [("log", False), ("access", True)])
def test_what_lets_a_request_pass_ends_in_good_order(rig: Rig, phase: str, is_open: bool) -> None:
    note(rig, "PROTOBUF_EVENT", phase, is_open)
    rig.end_worker()
    assert rig.kong.recv(100) == event_end(SEQUENCE)
    assert rig.kong.recv(100) == b""  # replies may come, and nobody knows how many


@pytest.mark.parametrize(
    ("phase", "is_open", "ends"), [("access", False, False), ("log", False, True), ("access", True, True)]
)
def test_an_event_of_msgpack_is_answered_and_its_connection_goes_on(
    rig: Rig, phase: str, is_open: bool, ends: bool
) -> None:
    note(rig, "MSGPACK_EVENT", phase, is_open)
    rig.end_worker()
    data: Any = response(rig).result["Data"]
    assert data == "ret" if ends else data == FAILURE
    rig.kong.sendall(b"next")
    assert rig.passed_on().recv(100) == b"next"


@pytest.mark.parametrize("state", ["PROTOBUF_CALL", "READING", "CUT"])
def test_what_cannot_be_answered_is_closed(rig: Rig, state: str) -> None:
    note(rig, state)
    rig.end_worker()
    assert rig.kong.recv(100) == b""


def test_a_call_of_msgpack_gets_an_error(rig: Rig) -> None:
    note(rig, "MSGPACK_CALL")
    rig.end_worker()
    assert "has ended" in response(rig).error
    rig.passed_on()


@pytest.mark.parametrize(("state", "is_error"), [("MSGPACK_UNREAD", False), ("MSGPACK_CALL_UNREAD", True)])
def test_a_request_that_was_read_in_part_is_answered(rig: Rig, state: str, is_error: bool) -> None:
    note(rig, state)
    rig.end_worker()
    assert (response(rig).error is not None) == is_error
    rig.kong.sendall(b"the rest")
    rig.all.serve()
    assert rig.kong.recv(100) == b""


@pytest.mark.parametrize("state", ["PROTOBUF_ANSWER", "MSGPACK_ANSWER"])
def test_kong_that_goes_on_has_got_its_answer(rig: Rig, state: str) -> None:
    note(rig, state)
    rig.record[OWED] = 1
    rig.end_worker()
    if state == "PROTOBUF_ANSWER":
        rig.kong.sendall(frame(b""))  # the reply to an earlier call tells nothing
        rig.all.serve()
        assert rig.all._unsettled
    rig.kong.sendall(b"next")
    rig.all.serve()
    assert rig.passed_on().recv(100) == b"next"
    assert rig.owed == (0 if state == "PROTOBUF_ANSWER" else 1)


def test_a_silent_kong_begins_an_event_of_protobuf_anew(rig: Rig) -> None:
    note(rig, "PROTOBUF_ANSWER")
    rig.end_worker()
    rig.settle()
    assert rig.kong.recv(100) == b""


def test_a_silent_kong_gets_a_failure_over_msgpack(rig: Rig) -> None:
    note(rig, "MSGPACK_ANSWER")
    rig.end_worker()
    rig.settle()
    assert response(rig).result["Data"] == FAILURE


def test_a_connection_that_kong_closes_is_not_kept(rig: Rig) -> None:
    rig.kong.close()
    rig.all.serve()
    assert not rig.all.are_left
    assert not rig.worker.held


def test_a_connection_on_its_way_to_a_worker_that_ends_goes_to_another(rig: Rig) -> None:
    rig.end_worker()
    lost = Worker()
    rig.all.pass_on([lost])
    lost.end()
    rig.all.worker_ended(lost)
    rig.kong.sendall(b"next")
    assert rig.passed_on().recv(100) == b"next"
    lost.channel.close()


def test_what_a_worker_said_last_is_not_lost(rig: Rig) -> None:
    """Its end of the channel has unread messages, which resets the channel."""
    rig.end_worker()
    rig.all.pass_on([rig.next])
    kong, accepted = socket.socketpair()
    assert rig.next.own.register(accepted) is not None
    rig.next.end()
    accepted.close()
    rig.all.worker_ended(rig.next)
    rig.next.channel.close()
    rig.next = Worker()
    for _ in range(2):
        rig.all.pass_on([rig.next])
    kong.settimeout(0.05)
    with pytest.raises(TimeoutError):
        kong.recv(1)
    kong.close()


def test_while_no_worker_serves_events_fail(rig: Rig) -> None:
    rig.end_worker()
    rig.all.stand_in()
    for _ in range(2):
        rig.kong.sendall(frame(encode_call(5, HandleEvent(1, "log"))))
        wait_for(lambda: (rig.all.serve(), True)[-1])
        assert rig.kong.recv(100) == event_end(SEQUENCE)
    rig.all.stand_back()
    rig.kong.sendall(b"next")
    assert rig.passed_on().recv(100) == b"next"


def test_while_no_worker_serves_no_instance_starts(rig: Rig) -> None:
    rig.end_worker()
    rig.all.stand_in()
    rig.kong.sendall(frame(encode_call(5, StartInstance("probe", b"{}"))))
    rig.all.serve()
    assert rig.kong.recv(100) == b""


@pytest.mark.parametrize(
    ("method", "argument", "data"),
    [
        ("plugin.HandleEvent", {"InstanceId": 1, "EventName": "log"}, "ret"),
        (
            "plugin.HandleEvent",
            {"InstanceId": 1, "EventName": "access"},
            {"Method": "kong.response.error", "Args": [500]},
        ),
        ("plugin.Step", {"EventId": 0, "Data": 1}, EXIT),
    ],
)
def test_over_msgpack_as_well(rig: Rig, method: str, argument: dict[str, object], data: object) -> None:
    rig.end_worker()
    rig.all.stand_in()
    rig.kong.sendall(encode_request(7, method, [argument]))
    rig.all.serve()
    assert response(rig).result["Data"] == data
    rig.kong.sendall(encode_request(7, "plugin.StartInstance", [{}]))
    rig.all.serve()
    assert response(rig).error


def test_at_the_end_an_event_of_protobuf_begins_anew(rig: Rig) -> None:
    rig.record[OWED] = 1
    rig.end_worker()
    rig.all.end_at_requests()
    rig.kong.sendall(frame(b""))
    rig.all.serve()
    assert rig.all.are_left
    rig.kong.sendall(frame(encode_call(5, HandleEvent(1, "access"))))
    rig.all.serve()
    assert is_ended(rig)


def test_at_the_end_an_event_of_msgpack_fails(rig: Rig) -> None:
    rig.end_worker()
    rig.all.end_at_requests()
    rig.kong.sendall(encode_request(7, "plugin.HandleEvent", [{"InstanceId": 1, "EventName": "access"}]))
    for _ in range(2):
        rig.all.serve()
    assert response(rig).result["Data"] == FAILURE
