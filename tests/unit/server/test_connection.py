"""A connection of Kong, over a pair of sockets: what is sent and received, in which pieces, and where it ends."""

from __future__ import annotations

import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from gevent import monkey
from kong_pdk.server import connection as connection_module
from kong_pdk.server.connection import BLOCKING, MOST_UNANSWERED, MOST_UNSENT, Connection, ConnectionClosed, Waits
from kong_pdk.wire.protobuf_codec import MAX_FRAME, PREFIX_SIZE, Frames, frame
from kong_pdk.wire.wire_errors import WireError
from waiting import DEADLINE, wait_for

MIB = 2**20
ON_GEVENT = bool(monkey.is_module_patched("threading"))
EMPTY = frame(b"")
SIZES = [1, 2, 3, 4, 5, 7, 11, 1000]


class Struck(BaseException):
    """An exception from outside."""


class Polling:
    """Waits as an engine does whose events have no thread of their own."""

    blocks = False

    def wait_to_read(self, connection: Connection) -> None:
        self.wait(connection, select.POLLIN, None)

    def wait(self, connection: Connection, events: int, seconds: float | None) -> None:
        BLOCKING.wait(connection, events, seconds)


class Scripted(Polling):
    """Does the next thing of a script at each wait, in place of waiting; for a test without other threads."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.steps = list(steps)

    def wait(self, connection: Connection, events: int, seconds: float | None) -> None:
        assert self.steps, "it waits for something that does not come"
        self.steps.pop(0)()


class Pair:
    """A connection, and Kong's end of it."""

    def __init__(self) -> None:
        near, self.kong = socket.socketpair()
        self.kong.settimeout(DEADLINE)
        self.connection = Connection(near)
        self._frames = Frames()

    def close(self) -> None:
        self.connection.close()
        self.kong.close()

    def sends(self, *pieces: bytes) -> list[Callable[[], object]]:
        """Steps that send the pieces, one at each wait."""
        return [lambda piece=piece: self.kong.sendall(piece) for piece in pieces]  # type: ignore[misc]

    def arrived(self) -> list[bytes]:
        """The frames that have come to Kong."""
        found: list[bytes] = []
        while select.select([self.kong], [], [], 0)[0]:
            found += self._frames.feed(self.kong.recv(MIB))
        return found

    def read(self, count: int) -> list[bytes]:
        """Wait for so many frames."""
        found: list[bytes] = []
        while len(found) < count:
            data = self.kong.recv(MIB)
            assert data
            found += self._frames.feed(data)
        return found


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


@pytest.fixture(params=["polling"] if ON_GEVENT else ["blocking", "polling"])
def waits(request: pytest.FixtureRequest) -> Waits:
    """The ways in which events wait. On gevent no socket blocks."""
    return BLOCKING if request.param == "blocking" else Polling()


def beside(job: Callable[[], object]) -> threading.Thread:
    """Run Kong's part on a thread."""
    thread = threading.Thread(target=job)
    thread.start()
    return thread


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


# What the loop reads.


@pytest.mark.parametrize("size", SIZES)
def test_frames_in_pieces_of_any_size(pair, size):
    contents = [b"a", b"", b"b" * 300, b"", b"", b"c" * 255, b"d" * 1500]
    found: list[bytes] = []
    for piece in cut(b"".join(map(frame, contents)), size):
        pair.kong.sendall(piece)
        while (content := pair.connection.next_frame()) is not None:
            found.append(content)
    assert found == contents
    assert not pair.connection.has_unread


def test_several_frames_at_once(pair):
    pair.kong.sendall(frame(b"first") + EMPTY + frame(b"third") + b"\x05")
    assert pair.connection.next_frame() == b"first"
    assert pair.connection.has_unread
    assert [pair.connection.buffered_frame() for _ in range(3)] == [b"", b"third", None]
    pair.kong.sendall(frame(b"later")[1:])
    assert pair.connection.next_frame() == b"later"
    assert pair.connection.next_frame() is None
    assert not pair.connection.has_unread


def test_a_large_frame(pair):
    content = bytes(range(256)) * (3 * MIB // 256)
    sending = beside(lambda: pair.kong.sendall(frame(content) + frame(b"next")))
    assert wait_for(pair.connection.next_frame) == content
    assert wait_for(lambda: pair.connection.buffered_frame() or pair.connection.next_frame()) == b"next"
    sending.join(DEADLINE)


def test_a_frame_that_is_too_long(pair):
    pair.kong.sendall((MAX_FRAME + 1).to_bytes(PREFIX_SIZE, sys.byteorder))
    with pytest.raises(WireError):
        pair.connection.next_frame()


def test_what_is_peeked_is_still_there(pair):
    pair.kong.sendall(frame(b"one")[:3])
    assert pair.connection.peek() == frame(b"one")[:3]
    pair.kong.sendall(frame(b"one")[3:] + frame(b"two"))
    assert pair.connection.peek() == frame(b"one") + frame(b"two")
    assert pair.connection.peek() == frame(b"one") + frame(b"two")
    assert [pair.connection.next_frame() for _ in range(3)] == [b"one", b"two", None]


@pytest.mark.parametrize("enough", [1, 7])
def test_what_is_peeked_stays_until_it_is_taken(pair, enough):
    connection = pair.connection
    connection.take(len(connection.peek(enough)))
    pair.kong.sendall(b"first")
    assert connection.peek(enough) == b"first"
    assert connection.has_unread is (enough == 7)  # the loop must not find them again and again
    connection.take(5)
    pair.kong.sendall(b"second")
    assert [connection.peek() for _ in range(2)] == [b"second"] * 2
    connection.take(6)
    assert connection.peek() == b""


@pytest.mark.parametrize("read", [Connection.next_frame, Connection.receive_now, lambda connection: connection.peek(4)])
def test_the_end_of_an_idle_connection(pair, read):
    pair.kong.sendall(b"\x05\x00")
    assert read(pair.connection) in (None, b"\x05\x00")
    pair.kong.close()
    with pytest.raises(ConnectionClosed) as raised:
        read(pair.connection)
    assert raised.value.first_unanswered is None


def test_an_idle_connection_that_is_reset(pair):
    pair.connection.tell(b"not read by Kong")
    pair.kong.close()
    with pytest.raises(ConnectionClosed):
        pair.connection.next_frame()


# Calls and their replies.


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("queued", [0, 1, 3])
def test_a_reply_in_pieces(pair, size, queued):
    connection = pair.connection
    connection.waits = Scripted(*pair.sends(*cut(EMPTY * queued + frame(b"the value" * 30), size)))
    for number in range(queued):
        connection.queue(frame(b"set%d" % number), f"set{number}")
    assert pair.arrived() == []
    assert connection.ask(frame(b"get"), "get") == b"the value" * 30
    assert pair.arrived() == [*(b"set%d" % number for number in range(queued)), b"get"]
    assert not connection.has_unread and not connection.owed and not connection.is_interrupted
    connection.waits = Scripted(*pair.sends(frame(b"another")))
    assert connection.ask(frame(b"again"), "again") == b"another"


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 70_000, b"x" * (5 * MIB)], ids=len)
@pytest.mark.parametrize("queued", [0, 2])
def test_replies_of_any_length(pair, waits, content, queued):
    connection, connection.waits = pair.connection, waits

    def answer() -> None:
        pair.read(queued + 1)
        for piece in cut(EMPTY * queued + frame(content), 100_003):
            pair.kong.sendall(piece)
        pair.read(1)
        pair.kong.sendall(frame(b"short"))

    for _ in range(queued):
        connection.queue(frame(b"set"), "set")
    answering = beside(answer)
    assert connection.ask(frame(b"get"), "get") == content
    assert connection.ask(frame(b"again"), "again") == b"short"
    answering.join(DEADLINE)


@pytest.mark.parametrize("size", [100_000, 5 * MIB])
def test_calls_of_any_length(pair, waits, size):
    connection, connection.waits = pair.connection, waits
    arrived: list[bytes] = []

    def answer() -> None:
        arrived.extend(pair.read(2))
        pair.kong.sendall(EMPTY + frame(b"value"))

    answering = beside(answer)
    connection.queue(frame(b"small"), "small")
    assert connection.ask(frame(b"y" * size), "large") == b"value"
    answering.join(DEADLINE)
    assert arrived == [b"small", b"y" * size]


@pytest.mark.parametrize("queued", [False, True])
def test_a_reply_that_is_too_long(pair, queued):
    if queued:
        pair.connection.queue(frame(b"set"), "set")
    pair.connection.waits = Scripted(*pair.sends((MAX_FRAME + 1).to_bytes(PREFIX_SIZE, sys.byteorder)))
    with pytest.raises(WireError):
        pair.connection.ask(frame(b"get"), "get")


def test_what_comes_with_a_reply_is_read_later(pair):
    """A peer that does not wait for the end of the event loses nothing."""
    pair.connection.waits = Scripted(*pair.sends(frame(b"value") + frame(b"next event")))
    assert pair.connection.ask(frame(b"get"), "get") == b"value"
    assert pair.connection.has_unread
    assert pair.connection.buffered_frame() == b"next event"


# Calls whose replies are read later.


@pytest.mark.parametrize("size", SIZES)
def test_replies_that_are_owed_are_skipped(pair, size):
    connection = pair.connection
    for number in range(3):
        connection.queue(frame(b"set%d" % number), number)
    connection.tell(frame(b"end"))
    assert pair.arrived() == [b"set0", b"set1", b"set2", b"end"]
    assert connection.owed
    found: list[bytes] = []
    for piece in cut(EMPTY * 3 + frame(b"event") + frame(b"and more"), size):
        pair.kong.sendall(piece)
        while (content := connection.next_frame()) is not None:
            found.append(content)
    assert found == [b"event", b"and more"]
    assert not connection.owed


def test_replies_that_are_owed_come_before_the_reply_to_a_call(pair):
    connection = pair.connection
    connection.queue(frame(b"log"), "log")
    connection.flush()
    assert pair.arrived() == [b"log"]
    connection.queue(frame(b"set"), "set")
    connection.waits = Scripted(*pair.sends(EMPTY, EMPTY + frame(b"value")))
    assert connection.ask(frame(b"get"), "get") == b"value"
    assert pair.arrived() == [b"set", b"get"]


def test_flush_without_calls_sends_nothing(pair):
    pair.connection.flush()
    assert pair.arrived() == [] and not pair.connection.owed
    pair.connection.queue(frame(b"log"), "log")
    pair.connection.flush()
    pair.connection.flush()
    assert pair.arrived() == [b"log"]


def test_frames_without_a_reply_are_owed_none(pair):
    pair.connection.tell(frame(b"answer"))
    assert not pair.connection.owed
    pair.kong.sendall(frame(b"next"))
    assert pair.connection.next_frame() == b"next"


@pytest.mark.parametrize("flushed", [0, 10])
def test_so_many_calls_are_unanswered(pair, flushed):
    connection = pair.connection
    connection.waits = Scripted()  # it must not wait yet
    for number in range(MOST_UNANSWERED - 1):
        connection.queue(frame(b"set"), "set")
        if number < flushed:
            connection.flush()
    assert len(pair.arrived()) == flushed
    connection.waits = Scripted(*pair.sends(EMPTY * (MOST_UNANSWERED - 1), EMPTY))
    connection.queue(frame(b"last"), "last")
    assert pair.arrived()[-1] == b"last"
    assert not connection.owed and not connection.waits.steps
    connection.queue(frame(b"one more"), "one more")
    assert pair.arrived() == []


def test_so_many_bytes_are_unsent(pair):
    connection = pair.connection
    connection.waits = Scripted(*pair.sends(EMPTY, EMPTY))
    half = b"h" * (MOST_UNSENT // 2)
    connection.queue(frame(half), "first half")
    assert pair.arrived() == []
    connection.queue(frame(half), "second half")
    assert pair.arrived() == [half, half]
    assert not connection.waits.steps
    connection.queue(frame(half), "once more")  # counted from the beginning
    assert pair.arrived() == []


def test_calls_wait_again_after_a_large_one(pair):
    connection = pair.connection
    connection.waits = Scripted(*pair.sends(EMPTY))
    large = b"h" * MOST_UNSENT
    connection.queue(frame(large), "large")
    for number in range(2):
        connection.queue(frame(b"small"), number)
    assert pair.arrived() == [large]


@pytest.mark.parametrize("does", ["_send", "_recv"])
def test_a_timeout_of_the_plugin_s_own_in_a_call_is_no_error_of_the_socket(pair, does):
    connection = pair.connection
    connection.waits = Polling()
    real = getattr(connection, does)

    def struck(*_: object) -> None:
        setattr(connection, does, real)
        raise TimeoutError("of the plugin")

    setattr(connection, does, struck)
    pair.kong.sendall(frame(b"value"))
    with pytest.raises(TimeoutError, match="of the plugin"):
        connection.ask(frame(b"get"), "get")
    assert connection.finish() == b"value"
    assert pair.arrived() == [b"get"]


# The end of a connection.


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize(
    ("whole", "part"), [(whole, part) for whole in range(3) for part in (0, 1, 4, 6) if part < 4 or whole == 2]
)
def test_the_first_call_without_a_whole_reply_is_told(pair, flushed, whole, part):
    connection = pair.connection
    connection.queue(frame(b"a"), "first")
    if flushed:
        connection.flush()
    connection.queue(frame(b"b"), "second")
    replies = [EMPTY, EMPTY, frame(b"value")]
    come = b"".join(replies[:whole]) + replies[whole][:part]
    connection.waits = Scripted(*pair.sends(come), lambda: pair.kong.shutdown(socket.SHUT_WR))
    if not come:
        del connection.waits.steps[0]
    with pytest.raises(ConnectionClosed) as raised:
        connection.ask(frame(b"c"), "third")
    assert raised.value.first_unanswered == ["first", "second", "third"][whole]


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("whole", range(3))
def test_the_first_owed_call_without_a_reply_is_told(pair, whole, resets):
    """Kong closes the connection after the end of an event; if it left bytes unread, that is a reset."""
    connection = pair.connection
    for name in ("first", "second", "third"):
        connection.queue(frame(name.encode()), name)
    connection.tell(frame(b"end"))
    if not resets:
        pair.arrived()
    pair.kong.sendall(EMPTY * whole)
    pair.kong.close()
    with pytest.raises(ConnectionClosed) as raised:
        for _ in range(2):
            assert connection.next_frame() is None
    assert raised.value.first_unanswered == ["first", "second", "third"][whole]


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("does", ["ask", "tell", "queue"])
def test_the_right_call_is_told_where_nothing_can_be_sent(pair, does, resets):
    """Kong has answered the first of two calls, and closed the connection at the second one."""
    connection, connection.waits = pair.connection, Polling()
    for name in ("first", "second"):
        connection.queue(frame(name.encode()), name)
        connection.flush()
    if not resets:
        pair.arrived()
    pair.kong.sendall(EMPTY)
    pair.kong.close()
    with pytest.raises(ConnectionClosed) as raised:
        if does == "ask":
            connection.ask(frame(b"get"), "third")
        elif does == "tell":
            connection.tell(frame(b"end"))
        else:
            connection.queue(b"x" * MOST_UNSENT, "third")
    assert raised.value.first_unanswered == "second"


def test_a_connection_that_is_closed_before_the_call(pair, waits):
    connection, connection.waits = pair.connection, waits
    pair.kong.close()
    with pytest.raises(ConnectionClosed) as raised:
        connection.ask(frame(b"get"), "get")
    assert raised.value.first_unanswered == "get"
    with pytest.raises(ConnectionClosed):
        connection.finish()


def test_a_connection_that_is_closed_before_frames_without_a_reply(pair):
    pair.kong.close()
    with pytest.raises(ConnectionClosed) as raised:
        pair.connection.tell(frame(b"end"))
    assert raised.value.first_unanswered is None


# A socket that is full.


def fill(pair: Pair) -> None:
    """Send so much that no more has room, without waiting."""
    sent = 0
    try:
        while True:
            sent += pair.connection._send(bytes(4096), socket.MSG_DONTWAIT)  # gevent's own socket waits
    except BlockingIOError:
        assert sent


@pytest.mark.parametrize("told", [False, True])
def test_a_peer_that_writes_before_it_reads(pair, waits, told):
    """Both sockets are full at once: the replies are taken while the calls are sent."""
    connection, connection.waits = pair.connection, waits
    large, arrived = b"c" * (2 * MIB), []

    def answer() -> None:
        arrived.extend(pair.read(1))
        pair.kong.sendall(frame(b"r" * (3 * MIB)))
        arrived.extend(pair.read(1))
        pair.kong.sendall(frame(b"value"))

    answering = beside(answer)
    connection.queue(frame(b"first"), "first")
    if told:
        connection.tell(frame(large))
        found = wait_for(connection.next_frame)
    else:
        found = connection.ask(frame(large), "second")
    answering.join(DEADLINE)
    assert found == b"value"
    assert arrived == [b"first", large]


@pytest.mark.parametrize("ends", ["shutdown", "close"])
@pytest.mark.parametrize("answered", [0, 1])
def test_a_peer_that_leaves_while_the_socket_is_full(pair, ends, answered):
    connection = pair.connection

    def leave() -> None:
        pair.kong.sendall(EMPTY * answered)
        if ends == "shutdown":
            pair.kong.shutdown(socket.SHUT_WR)
        else:
            pair.kong.close()

    connection.waits = Scripted(leave, *[lambda: None] * 3)
    connection.queue(frame(b"set"), "first")
    with pytest.raises(ConnectionClosed) as raised:
        connection.ask(frame(b"c" * (2 * MIB)), "second")
    assert raised.value.first_unanswered == ["first", "second"][answered]


@pytest.mark.parametrize("does", ["ask", "tell"])
def test_a_limited_time_to_send(pair, does):
    connection, connection.waits, connection.seconds = pair.connection, Polling(), 0.02
    fill(pair)
    with pytest.raises(TimeoutError):
        connection.ask(frame(b"get"), "get") if does == "ask" else connection.tell(frame(b"end"))


def test_a_limited_time_to_receive(pair, waits):
    connection, connection.waits, connection.seconds = pair.connection, waits, 0.02
    with pytest.raises(TimeoutError):
        connection.ask(frame(b"get"), "get")
    pair.kong.sendall(frame(b"value")[:6])
    with pytest.raises(TimeoutError):
        connection.finish()
    pair.kong.sendall(frame(b"value")[6:])
    assert connection.finish() == b"value"
    assert not connection.is_interrupted
    connection.seconds = None
    answering = beside(lambda: (pair.read(2), pair.kong.sendall(frame(b"next"))))
    assert connection.ask(frame(b"again"), "again") == b"next"
    answering.join(DEADLINE)


# Exceptions that interrupt an exchange.


def strike() -> None:
    raise Struck


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("queued", [0, 2])
@pytest.mark.parametrize("flushed", [False, True])
def test_an_interrupted_exchange_is_completed(pair, at, queued, flushed):
    connection = pair.connection
    for number in range(queued):
        connection.queue(frame(b"set%d" % number), f"set{number}")
        if flushed:
            connection.flush()
    replies = EMPTY * queued + frame(b"value")
    steps = pair.sends(*cut(replies, len(replies) // 5 + 1))
    connection.waits = Scripted(*steps[:at], strike, *steps[at:])
    if at >= len(steps):
        assert connection.ask(frame(b"get"), "get") == b"value"
        assert not connection.is_interrupted
    else:
        with pytest.raises(Struck):
            connection.ask(frame(b"get"), "get")
        assert connection.is_interrupted
        assert connection.finish() == b"value"
    assert not connection.is_interrupted and not connection.has_unread and not connection.owed
    assert connection.finish() == b""
    assert pair.arrived() == [*(b"set%d" % number for number in range(queued)), b"get"]
    connection.waits = Scripted(*pair.sends(frame(b"own value")))
    assert connection.ask(frame(b"next"), "next") == b"own value"
    assert pair.arrived() == [b"next"]


@pytest.mark.parametrize("does", ["ask", "tell"])
def test_an_exchange_is_interrupted_in_the_middle_of_sending(pair, does):
    connection, large = pair.connection, b"l" * (2 * MIB)
    connection.queue(frame(b"set"), "set")
    connection.waits = Scripted(strike)
    with pytest.raises(Struck):
        connection.ask(frame(large), "get") if does == "ask" else connection.tell(frame(large))
    assert connection.is_interrupted
    arrived: list[bytes] = []

    def answer() -> None:
        arrived.extend(pair.read(2))
        pair.kong.sendall(EMPTY + frame(b"value"))

    answering = beside(answer)
    connection.waits = Polling()
    assert connection.finish() == (b"value" if does == "ask" else b"")
    answering.join(DEADLINE)
    assert arrived == [b"set", large]
    if does == "tell":
        assert connection.next_frame() == b"value"
    assert not connection.owed and not connection.is_interrupted


def test_a_call_that_makes_too_many_is_interrupted(pair):
    connection = pair.connection
    connection.waits = Scripted(strike)
    with pytest.raises(Struck):
        for number in range(MOST_UNANSWERED):
            connection.queue(frame(b"%d" % number), number)
    assert connection.is_interrupted
    connection.waits = Scripted(*pair.sends(EMPTY * MOST_UNANSWERED))
    connection.finish()
    assert pair.arrived() == [b"%d" % number for number in range(MOST_UNANSWERED)]
    connection.waits = Scripted(*pair.sends(frame(b"value")))
    assert connection.ask(frame(b"get"), "get") == b"value"


class Striking:
    """Raises :class:`Struck` at the n-th instruction in the module of the connection."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.where = ""

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename != connection_module.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                self.where = f"line {frame.f_lineno}"
                sys.settrace(None)
                raise Struck(self.where)
        return self


def asks(connection: Connection) -> None:
    connection.ask(frame(b"get"), "get")


def queues_and_asks(connection: Connection) -> None:
    connection.queue(frame(b"set"), "set")
    connection.queue(frame(b"another"), "another")
    connection.ask(frame(b"get"), "get")


def flushes_and_asks(connection: Connection) -> None:
    connection.queue(frame(b"set"), "set")
    connection.flush()
    connection.queue(frame(b"another"), "another")
    connection.ask(frame(b"get"), "get")


@pytest.mark.skipif(ON_GEVENT, reason="traces threads")
@pytest.mark.parametrize("does", [asks, queues_and_asks, flushes_and_asks])
def test_struck_at_every_instruction(does):
    """Afterwards each call has come once or not at all, in its order, and the next one gets its own reply."""
    made = [b"set", b"another", b"get"]
    at, struck = 0, True
    while struck:
        at, pair = at + 1, Pair()
        arrived: list[bytes] = []

        def answer(pair: Pair = pair, arrived: list[bytes] = arrived) -> None:
            while data := pair.kong.recv(MIB):
                for content in pair._frames.feed(data):
                    arrived.append(content)
                    pair.kong.sendall(frame(b"reply to " + content))

        answering, striking = beside(answer), Striking(at)
        sys.settrace(striking)
        try:
            does(pair.connection)
        except Struck:
            pass
        finally:
            sys.settrace(None)
        struck = bool(striking.where)
        pair.connection.finish()
        reply = pair.connection.ask(frame(b"next"), "next")
        pair.connection.socket.shutdown(socket.SHUT_WR)
        answering.join(DEADLINE)
        pair.close()
        assert reply == b"reply to next", striking.where
        assert arrived[-1] == b"next", striking.where
        assert arrived[:-1] == [name for name in made if name in arrived], striking.where
    assert at > 20


# Requests of MsgPack:1.


def test_a_request_is_answered_by_what_is_told(pair):
    connection = pair.connection
    assert connection.request is None
    connection.request = 7
    assert connection.request == 7
    connection.tell(b"answer")
    assert pair.kong.recv(100) == b"answer"
    assert connection.request is None
    connection.request = 8
    assert connection.request == 8


def test_a_request_whose_answer_is_interrupted_has_none_yet(pair):
    connection = pair.connection
    connection.request = 7
    connection.waits = Scripted(strike)
    fill(pair)
    with pytest.raises(Struck):
        connection.tell(b"answer")
    assert connection.request == 7 and connection.is_interrupted
    while not pair.kong.recv(MIB).endswith(b"\0") or select.select([pair.kong], [], [], 0)[0]:
        pass
    connection.finish()
    assert connection.request is None and not connection.is_interrupted
    assert pair.kong.recv(100) == b"answer"


def test_what_is_received_before_the_answer_is_kept(pair):
    """MsgPack:1 reads all that came; the next request may come before the answer to this one is sent."""
    connection = pair.connection
    pair.kong.sendall(b"request")
    assert connection.peek() == b"request"
    connection.take(7)
    connection.request = 1
    pair.kong.sendall(b"another")
    assert connection.peek(8) == b"another"
    connection.tell(b"answer")
    assert connection.has_unread
    assert connection.peek() == b"another"
