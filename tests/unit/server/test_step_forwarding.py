"""Steps that are handed to another worker: the one that waits does so for a limited time."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from fake_kong import MsgpackKong
from kong_pdk.server.call_plan import Plans, plan_over_msgpack
from kong_pdk.server.protocols.msgpack_event import Events
from kong_pdk.server.server import EngineOptions, Server
from kong_pdk.server.workers import step_forwarding as module
from kong_pdk.server.workers.step_forwarding import ConnectionCounts, Peers, PeerSilent, make_inbox
from kong_pdk.wire.msgpack_codec import Messages, Response, encode_request, encode_response
from waiting import DEADLINE

STEP = encode_request(1, "plugin.Step", [{"EventId": 1}])
ANSWER = encode_response(1, None, {"Data": "ret", "EventId": 1})


@pytest.fixture
def pair() -> Iterator[tuple[Peers, Peers]]:
    """Give two workers as they see each other."""
    inboxes = [make_inbox() for _ in range(2)]
    outboxes = [writer for _, writer in inboxes]
    counts = ConnectionCounts(2)
    yield Peers(0, inboxes[0][0], outboxes, counts), Peers(1, inboxes[1][0], outboxes, counts)
    for each in inboxes:
        for end in each:
            end.close()


def test_a_worker_that_does_not_answer_does_not_block_others_for_ever(pair, monkeypatch, caplog):
    """And is not asked a second time, on another connection."""
    first, second = pair
    monkeypatch.setattr(module, "ANSWER_SECONDS", DEADLINE)
    received: list[socket.socket] = []

    def answer_once() -> None:
        connection = second.receive()
        assert connection is not None
        received.append(connection)
        connection.settimeout(DEADLINE)
        assert connection.recv(4096) == STEP
        connection.sendall(ANSWER)

    other = threading.Thread(target=answer_once)
    other.start()
    assert first.relay(1, STEP) == ANSWER
    other.join(DEADLINE)
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.1)
    with pytest.raises(PeerSilent):  # on the connection that was kept
        first.relay(1, STEP)
    second.inbox.settimeout(0.0)
    assert second.receive() is None
    assert "a worker did not answer another worker within 0.1 s" in caplog.text
    received[0].close()


def test_a_worker_that_answers_byte_by_byte_does_not_block_others_for_ever(pair, monkeypatch):
    first, second = pair
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.3)
    ended = threading.Event()

    def dribble() -> None:
        connection = second.receive()
        assert connection is not None
        with closing(connection), suppress(OSError):  # the other worker closes the connection when it waits no longer
            connection.sendall(ANSWER[:1])
            while not ended.wait(0.05):
                connection.sendall(b"\x94\x01")  # the inside of an array that does not end

    other = threading.Thread(target=dribble)
    other.start()
    try:
        with pytest.raises(PeerSilent):
            first.relay(1, STEP)
    finally:
        ended.set()
        other.join(DEADLINE)


def test_a_step_that_cannot_be_handed_on_ends_the_request(pair, engine, monkeypatch, caplog):
    """Without an answer Kong would let the request pass."""
    first, second = pair
    server = Server([], [], peers=first, engines=EngineOptions(engine))
    id = Events(1).begin("access", Plans(lambda function: plan_over_msgpack(function, "access"))).id
    given, kongs = socket.socketpair()
    kongs.settimeout(DEADLINE)

    def no_more(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    serving = threading.Thread(target=server.run)
    serving.start()
    with given, closing(kongs):
        socket.send_fds(second._outboxes[0], [b"\0"], [given.fileno()])
        monkeypatch.setattr(module.socket, "socketpair", no_more)
        kongs.sendall(encode_request(1, "plugin.Step", [{"EventId": id, "Data": "x"}]))
        (response,) = Messages().feed(kongs.recv(4096))
    server.stop()
    serving.join(DEADLINE)
    assert isinstance(response, Response)
    assert response.result == {"Data": {"Method": "kong.response.error", "Args": [500]}, "EventId": id}


@pytest.mark.parametrize(("policies", "is_open"), [("open", True), ("closed", False)])
def test_a_step_without_its_event_follows_the_policy_of_the_plugins(serve, policies, is_open):
    """The worker that had it was killed while Kong made a call. All plugins of a server fail open, or it does not."""

    class Probe:
        def __init__(self, config):
            pass

        def access(self, kong):
            pass

    kong = MsgpackKong(serve(Probe, on_error=policies))
    id = Events(0).begin("access", Plans(lambda function: plan_over_msgpack(function, "access"))).id
    answer = kong.ask("plugin.Step", {"EventId": id, "Data": "x"})
    ends = {"Method": "kong.response.error", "Args": [500]}
    assert answer == {"Data": "ret" if is_open else ends, "EventId": id}
    kong.close()


def test_the_worker_with_the_fewest_connections_has_the_turn(pair):
    one, other = pair
    assert one.has_turn and other.has_turn
    one.note_connections(1)
    assert not one.has_turn and other.has_turn
    other.note_connections(2)
    assert one.has_turn and not other.has_turn


def test_nobody_waits_for_a_worker_that_has_ended():
    counts = ConnectionCounts(2)
    counts.set(0, 3)
    assert not counts.has_least(0)
    counts.leave_out(1)
    assert counts.has_least(0)
