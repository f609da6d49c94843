"""The loop itself: whose turn it is, and the moments in which it lets replies come together."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from gevent import monkey
from kong_pdk.server import loop as module
from kong_pdk.server.connection import Connection
from kong_pdk.server.loop import EpollLoop
from waiting import DEADLINE, wait_for

pytestmark = pytest.mark.skipif(bool(monkey.is_module_patched("threading")), reason="gevent has a loop of its own")


@pytest.fixture
def loop() -> Iterator[EpollLoop]:
    loop = EpollLoop()
    loop.start()
    yield loop
    loop.stop()


class Napping:
    """A loop that does not run, its naps, and a clock that stands still but for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = EpollLoop()
        self.naps: list[float] = []
        self._now = 0.0
        monkeypatch.setattr(module.time, "sleep", self._sleep)
        monkeypatch.setattr(module.time, "perf_counter", lambda: self._now)

    def _sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self._now += seconds

    def look(self, found: int, waiting: int, passed: float = 0.0) -> None:
        """A look at which so many descriptors were ready, while so many replies are awaited.

        :param passed: the seconds since the last look, beside the nap.
        """
        self._now += passed
        self.loop.parked = set(range(waiting))
        self.loop._nap(found)


@pytest.fixture
def napping(monkeypatch: pytest.MonkeyPatch) -> Iterator[Napping]:
    napping = Napping(monkeypatch)
    yield napping
    napping.loop.stop()


@pytest.mark.parametrize(("found", "waiting"), [(1, 0), (1, 2), (0, 2), (3, 4), (9, 16)])
def test_no_moment_is_lost_where_little_is_awaited_or_much_is_there(napping, found, waiting):
    for _ in range(200):
        napping.look(found, waiting, 100e-6)
    assert napping.naps == []


def test_no_moment_is_lost_where_replies_come_seldom(napping):
    """In a millisecond there is not more than one, so it would only be late."""
    for _ in range(1000):
        napping.look(1, 64, 1e-3)
    assert napping.naps == []


def test_a_moment_is_as_long_as_most_replies_take(napping):
    """Kong makes a call every 100 us: two thirds of the replies to ten are there after 667 us."""
    for _ in range(100):
        napping.look(1, 10, 100e-6)
        if napping.loop._expected:
            napping.look(round(napping.naps[-1] / 100e-6), 10)
    assert napping.naps[-1] == pytest.approx(667e-6, rel=0.2)


def test_a_moment_is_a_millisecond_at_most(napping):
    for _ in range(100):
        napping.look(1, 64, 100e-6)
        if napping.loop._expected:
            napping.look(round(napping.naps[-1] / 100e-6), 64)
    assert max(napping.naps) == pytest.approx(1e-3)


def test_there_are_hardly_any_moments_where_replies_do_not_come_together(napping):
    """Kong waits for slow clients: no event must be slow for that."""
    for _ in range(2000):
        napping.look(1, 16, 100e-6)
        if napping.loop._expected:
            napping.look(0, 16)
    assert len(napping.naps) <= 150
    assert sum(napping.naps) < 0.2 * 2000 * 100e-6


def test_replies_that_are_owed_count(napping):
    napping.loop.owed = set(range(10))
    for _ in range(100):
        napping.look(1, 0, 100e-6)
    assert napping.naps


def test_functions_are_called_on_the_thread_of_the_loop_in_order(loop):
    called: list[tuple[int, int]] = []
    for number in range(100):
        loop.call(lambda number=number: called.append((number, threading.get_ident())))
    wait_for(lambda: len(called) == 100)
    assert called == [(number, loop.thread) for number in range(100)]


def test_a_function_that_raises_holds_up_no_other(loop, caplog):
    done = threading.Event()
    loop.call(lambda: 1 / 0)
    loop.call(done.set)
    assert done.wait(DEADLINE)
    assert "ZeroDivisionError" in caplog.text


def test_timers_ring_in_the_order_of_their_times(loop):
    rung: list[int] = []
    loop.call(lambda: [loop.call_later(seconds, lambda s=seconds: rung.append(s)) for seconds in (0.03, 0.01, 0.02)])
    wait_for(lambda: len(rung) == 3)
    assert rung == [0.01, 0.02, 0.03]


def test_a_connection_is_given_away_once_and_taken_back(loop):
    ours, kongs = socket.socketpair()
    connection, read = Connection(ours), list[bytes]()

    def readable() -> None:
        read.append(connection.receive_now())
        loop.release(connection)

    connection.on_readable = readable
    loop.adopt(connection)
    for number in range(3):
        kongs.sendall(bytes([number]))
        wait_for(lambda number=number: len(read) == number + 1)
    assert read == [b"\0", b"\1", b"\2"] and connection.is_idle
    loop.forget(connection)
    assert not loop.connections and kongs.recv(1) == b""
    kongs.close()


def test_a_connection_that_an_event_has_is_not_looked_at(loop):
    """Bytes that come meanwhile wake up nobody; they are read when the event gives the connection back."""
    ours, kongs = socket.socketpair()
    connection, seen = Connection(ours), list[str]()
    connection.on_readable = lambda: seen.append("given away")
    loop.adopt(connection)
    kongs.sendall(b"x")
    wait_for(lambda: connection.watched_by is None)  # muted at the second look
    before = loop.turn
    loop.call(lambda: None)
    wait_for(lambda: loop.turn > before)
    assert seen == ["given away"] and loop.turn <= before + 2
    loop.release(connection)
    wait_for(lambda: len(seen) == 2)
    loop.forget(connection)
    kongs.close()


def test_a_connection_that_comes_back_to_a_loop_that_was_replaced_is_watched_by_the_next_one(loop):
    """Its event ended while the loop was replaced."""
    ours, kongs = socket.socketpair()
    connection, seen = Connection(ours), list[int]()
    connection.on_readable = lambda: seen.append(module.get_ident())
    loop.connections[connection.fd] = connection
    successor, has_ended = EpollLoop(), threading.Event()
    successor.share_connections(loop)
    successor.start()
    try:
        loop.replace_by(successor, has_ended.is_set)
        loop.release(connection)
        has_ended.set()
        loop.call_here(lambda: None)
        wait_for(lambda: connection.watched_by is successor)
        kongs.sendall(b"x")
        wait_for(lambda: seen == [successor.thread])
        successor.forget(connection)
    finally:
        successor.stop()
        kongs.close()
