"""A connection of Kong: what came and is not read yet, what is not sent yet, and the replies that Kong still owes.

The loop owns an idle connection. An event owns it while it runs, on a greenlet or a thread, and waits for it in the way
of its engine. Calls without a result are sent together with the next call that has one, or with the end of the event,
and their empty replies are read then: one ``send`` for all of them.

An exception from outside (a timer of gevent, ``PyThreadState_SetAsyncExc``) can strike between any two steps of Python.
So what belongs together happens in one step of C: ``extend`` of a ``map`` sends and counts, or receives and keeps. One
assignment of a new :class:`_Batch` ends an exchange.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Protocol, TypeAlias

from kong_pdk.server.event_record import CUT, SIZE, STATE, Record
from kong_pdk.wire.protobuf_codec import PREFIX_SIZE, frame_size
from kong_pdk.wire.wire_errors import WireError

MOST_UNANSWERED = 64
"""How many calls without a result may be sent, or wait to be sent, before their replies are read."""

MOST_UNSENT = 32 * 1024
"""How many bytes of such calls may wait to be sent."""

_CHUNK = 64 * 1024
_LARGEST_CHUNK = 1024 * 1024
_ORDER = sys.byteorder
_EMPTY_FRAME = bytes(PREFIX_SIZE)
_CHUNKS, _DONTWAIT, _WAIT = (_CHUNK,), (socket.MSG_DONTWAIT,), (0,)
_frames_of, _sent_of = itemgetter(0), itemgetter(1)

Sent: TypeAlias = Any
"""What stands for a call until its reply is read."""


class ConnectionClosed(Exception):
    """Kong closed the connection."""

    def __init__(self, first_unanswered: Sent | None = None) -> None:
        """:param first_unanswered: the oldest call without a reply: Kong has refused it, or is gone."""
        super().__init__()
        self.first_unanswered = first_unanswered


class Waits(Protocol):
    """How an event waits for a connection: the part of an engine that a connection uses."""

    @property
    def blocks(self) -> bool:
        """Whether the event has a thread of its own, which may wait in ``recv``."""
        ...

    def wait_to_read(self, connection: Connection) -> None:
        """Wait until a connection can be read, without a limit."""
        ...

    def wait(self, connection: Connection, events: int, seconds: float | None) -> None:
        """Wait until a connection is ready.

        :param events: ``select.POLLIN``, or that and ``select.POLLOUT``.
        :raises TimeoutError: it is not ready after ``seconds``.
        """
        ...


class BlockingWaits:
    """Waits on a thread that has nothing else to do."""

    blocks = True

    def wait_to_read(self, connection: Connection) -> None:
        """See :class:`Waits`."""
        self.wait(connection, select.POLLIN, None)

    def wait(self, connection: Connection, events: int, seconds: float | None) -> None:
        """See :class:`Waits`."""
        poll = select.poll()
        poll.register(connection.fd, events)
        if not poll.poll(None if seconds is None else seconds * 1000):
            raise TimeoutError


BLOCKING = BlockingWaits()


class _Batch:
    """An exchange with Kong: some calls, and the reply to the last one."""

    __slots__ = ("calls", "chunks", "owed", "request", "sizes")

    def __init__(self, owed: Sequence[Sent] = (), chunks: Sequence[bytes] = ()) -> None:
        self.owed = owed
        """What was sent in earlier batches and has no reply yet."""
        self.chunks = chunks
        """What was received and is not read yet; a list while more is received."""
        self.sizes: list[int]
        """The numbers of bytes that were sent. Set before :attr:`calls`."""
        self.calls: list[tuple[bytes, Sent | None]] | None = None
        """What is sent, each with what it stands for; None where no reply follows. None before the exchange."""
        self.request: int | None = None
        """The request of MsgPack:1 that is answered by it."""


class Connection:
    """A connection, with the frames of ProtoBuf:1 on it."""

    __slots__ = (
        "_batch", "_queued", "_recv", "_send", "_unsent", "fd", "on_readable", "record", "seconds", "socket", "waits",
        "watched_by",
    )  # fmt: skip

    def __init__(self, connection: socket.socket) -> None:
        """:param connection: in blocking mode; what must not block uses ``MSG_DONTWAIT``."""
        self.socket = connection
        self.fd = connection.fileno()
        raw = getattr(connection, "_sock", connection)  # the socket behind one of gevent, which waits by itself
        self._recv, self._send = raw.recv, raw.send
        self._batch = _Batch()
        self._queued: list[tuple[bytes, Sent | None]] = []
        """Calls without a result that are not sent yet."""
        self._unsent = 0
        """How many bytes they have."""
        self.on_readable: Callable[[], None] = self.close
        """Called by the loop, which hands the connection over by that."""
        self.watched_by: Any = None
        """The loop that watches it; None where none does."""
        self.waits: Waits = BLOCKING
        self.seconds: float | None = None
        """How long to wait for each piece; None without a limit."""
        self.record: Record = bytearray(SIZE)
        """What it is at, in memory that the master sees where there is one."""

    def close(self) -> None:
        """Close it, for Kong as well: the master has a duplicate."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self.socket.close()

    def leave(self) -> None:
        """Close it in this process alone."""
        with contextlib.suppress(OSError):
            self.socket.close()

    # What the loop reads, without waiting.

    def receive_now(self, flags: int = socket.MSG_DONTWAIT) -> bytes:
        """Give what has come; nothing where nothing has.

        :raises ConnectionClosed: Kong closed the connection.
        """
        try:
            data: bytes = self._recv(_CHUNK, flags)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            raise ConnectionClosed(next(iter(self._batch.owed), None))
        return data

    @property
    def has_unread(self) -> bool:
        """Whether bytes were received that nobody has read yet."""
        return bool(self._batch.chunks)

    @property
    def is_idle(self) -> bool:
        """Whether a loop has it, and watches it."""
        return self.watched_by is not None and self.fd in self.watched_by.idle

    @property
    def owed(self) -> int:
        """How many replies to calls without a result will come."""
        return len(self._batch.owed)

    @property
    def to_come(self) -> int:
        """How many replies will come once the calls that wait are sent, too."""
        return len(self._batch.owed) + len(self._queued)

    def expect(self, replies: int) -> None:
        """Expect replies to calls of another worker, which had the connection before."""
        self._batch = _Batch([""] * replies)

    def peek(self, enough: int = 1) -> bytes:
        """Give what has come and nobody has read yet, without reading it; nothing where nothing has.

        :param enough: so many bytes stay with the system, where another process may read them; fewer are kept here,
            or the loop would find them again and again.
        :raises ConnectionClosed: Kong closed the connection.
        """
        kept = self._batch.chunks
        data = self.receive_now(socket.MSG_DONTWAIT | socket.MSG_PEEK)
        if kept or 0 < len(data) < enough:
            if data := self.receive_now():
                kept = self._batch.chunks = [*kept, data]
            return b"".join(kept)
        return data

    def take(self, size: int) -> None:
        """Read what :meth:`peek` has given.

        :param size: its length.
        """
        if self._batch.chunks:
            self._batch.chunks = ()
        elif size:
            self._recv(size, socket.MSG_DONTWAIT)

    @property
    def request(self) -> int | None:
        """The request of MsgPack:1 that has no answer yet. What is sent next is its answer."""
        return self._batch.request

    @request.setter
    def request(self, id: int) -> None:
        self._batch.request = id

    def next_frame(self) -> bytes | None:
        """Give the next frame that is no reply to an earlier call; None until a whole one has come.

        :raises ConnectionClosed: Kong closed the connection.
        :raises WireError: the bytes are no frame.
        """
        batch = self._batch
        data = self.receive_now()
        if not batch.chunks:
            if not batch.owed:
                if _is_one_frame(data):
                    return data[PREFIX_SIZE:]
            elif data == _EMPTY_FRAME * len(batch.owed):  # the replies to all calls without a result
                self._batch = _Batch()
                return None
        if data:
            batch.chunks = [*batch.chunks, data]
        return self.buffered_frame()

    def buffered_frame(self) -> bytes | None:
        """Give the next frame from what was received already, as :meth:`next_frame`."""
        batch = self._batch
        chunks = batch.chunks
        if not chunks or (len(chunks) > 1 and frame_size(chunks) > sum(map(len, chunks))):
            return None  # they are joined once, when the last one is there
        data, found = b"".join(chunks), None
        place = 0
        while found is None and place < len(data):
            end = place + frame_size([data[place : place + PREFIX_SIZE]])
            if end > len(data):
                break
            if batch.owed:
                batch.owed = batch.owed[1:]
            else:
                found = data[place + PREFIX_SIZE : end]
            place = end
        batch.chunks = [data[place:]] if place < len(data) else ()
        return found

    # What an event sends and receives.

    def ask(self, call: bytes, sent: Sent) -> bytes:
        """Send a call after those that wait to be sent, and give its reply.

        :param call: the frames of the call.
        :param sent: stands for the call.
        :raises ConnectionClosed: Kong closed the connection.
        :raises WireError: the bytes are no frame.
        """
        waits = self.waits
        if not self._send_with((call, sent)) or waits.blocks or self.seconds is not None:
            return self.finish()
        batch = self._batch
        if batch.owed or batch.chunks:
            return self.finish()
        waits.wait_to_read(self)
        chunks: list[bytes] = []
        batch.chunks = chunks
        try:
            chunks.extend(map(self._recv, _CHUNKS, _DONTWAIT))
        except TimeoutError:  # of the plugin, by a signal for example
            raise
        except OSError:
            return self.finish()
        # Nearly always all replies come in one piece, and all but the last one are empty.
        received, start = chunks[0], PREFIX_SIZE * len(batch.calls or ())
        size = int.from_bytes(received[start - PREFIX_SIZE : start], _ORDER)
        if size != len(received) - start or (start > PREFIX_SIZE and any(received[: start - PREFIX_SIZE])):
            if not received:
                raise self._closed(batch)
            return self.finish()
        self._batch = _Batch()
        return received[start:]

    def tell(self, frames: bytes) -> None:
        """Send frames that Kong does not answer, after the calls that wait to be sent.

        The replies to those are read before the next frame.

        :raises ConnectionClosed: Kong closed the connection.
        """
        if self._send_with((frames, None)):
            self._batch = _Batch(_unanswered(self._batch), self._batch.chunks)
        else:
            self.finish()

    def _send_with(self, last: tuple[bytes, Sent | None]) -> bool:
        """Begin an exchange: send the calls that wait to be sent, and a last one.

        :param last: as in :attr:`_Batch.calls`.
        :return: whether all was sent, as nearly always; else :meth:`finish` sends the rest.
        """
        batch = self._batch
        sizes: list[int] = []
        batch.sizes = sizes
        if self._queued:
            self._unsent, batch.calls, self._queued = 0, self._queued, []
            batch.calls.append(last)
            data = b"".join(map(_frames_of, batch.calls))
        else:
            batch.calls = [last]
            data = last[0]
        try:
            sizes.extend(map(self._send, (data,), _DONTWAIT))
        except TimeoutError:
            raise
        except OSError:
            return False
        return sizes[0] == len(data)

    def queue(self, call: bytes, sent: Sent) -> None:
        """Take a call without a result, which is sent with what follows. At too many of them, their replies are read.

        :raises ConnectionClosed: Kong closed the connection.
        :raises WireError: the bytes are no frame.
        """
        unsent = self._unsent + len(call)
        if unsent >= MOST_UNSENT or len(self._queued) + len(self._batch.owed) + 1 >= MOST_UNANSWERED:
            self.ask(call, sent)
        else:
            self._queued.append((call, sent))
            self._unsent = unsent

    def flush(self) -> None:
        """Send the calls that wait, and do not wait for their replies.

        :raises ConnectionClosed: Kong closed the connection.
        """
        if self._queued:
            self.tell(b"")

    @property
    def exchange(self) -> object:
        """The exchange under way, in which Kong has something to do; None where there is none."""
        batch = self._batch
        return batch if batch.calls is not None else None

    @property
    def is_interrupted(self) -> bool:
        """Whether an exception interrupted an exchange."""
        return self._batch.calls is not None

    def finish(self) -> bytes:
        """Complete the exchange under way, and give the reply to its last call; empty where there is none.

        :raises ConnectionClosed: Kong closed the connection.
        :raises TimeoutError: a part has not come after :attr:`seconds`.
        :raises WireError: the bytes are no frame.
        """
        batch = self._batch
        if batch.calls is None:
            return b""
        if self._queued is batch.calls:  # an exception struck between two assignments
            self._queued = []
        self._send_rest(batch, batch.calls)
        if batch.calls[-1][1] is None:
            self._batch = _Batch(_unanswered(batch), batch.chunks)
            return b""
        reply, rest = self._replies(batch)
        self._batch = _Batch((), rest)
        return reply

    def _send_rest(self, batch: _Batch, calls: list[tuple[bytes, Sent | None]]) -> None:
        data, sizes = b"".join(map(_frames_of, calls)), batch.sizes
        state = self.record[STATE]
        while (done := sum(sizes)) < len(data):
            if done:  # nobody else can complete it
                self.record[STATE] = CUT
            try:
                sizes.extend(map(self._send, (data[done:],), _DONTWAIT))
            except BlockingIOError:
                self._wait_to_send(batch)
            except TimeoutError:
                raise
            except OSError:
                raise self._closed(batch) from None
        self.record[STATE] = state

    def _replies(self, batch: _Batch) -> tuple[bytes, list[bytes]]:
        """Receive the replies to all calls; give the last one, and what was received behind it."""
        count = len(_unanswered(batch))
        data, place, reply = b"".join(batch.chunks), 0, b""
        for _ in range(count):
            while (end := place + frame_size([data[place : place + PREFIX_SIZE]])) > len(data):
                self._receive_until(batch, end)
                data = b"".join(batch.chunks)
            reply = data[place + PREFIX_SIZE : end]
            place = end
        return reply, [data[place:]] if place < len(data) else []

    def _receive_until(self, batch: _Batch, size: int) -> None:
        """Receive until so many bytes of the batch are there."""
        while (missing := size - sum(map(len, batch.chunks))) > 0:
            self._receive(batch, min(max(missing, _CHUNK), _LARGEST_CHUNK))

    def _receive(self, batch: _Batch, size: int) -> None:
        """Wait for more bytes, and keep them in the batch."""
        flags: Iterable[int] = _DONTWAIT
        if self.seconds is not None:
            self.waits.wait(self, select.POLLIN, self.seconds)
        elif self.waits.blocks:
            flags = _WAIT
        else:
            self.waits.wait_to_read(self)
        self._keep_received(batch, size, flags)

    def _wait_to_send(self, batch: _Batch) -> None:
        """Wait until there is room to send, and take replies meanwhile, for which Kong may need room."""
        self.waits.wait(self, select.POLLIN | select.POLLOUT, self.seconds)
        self._keep_received(batch, _CHUNK, _DONTWAIT)

    def _keep_received(self, batch: _Batch, size: int, flags: Iterable[int]) -> None:
        """Receive what has come, and keep it in the batch."""
        chunks = batch.chunks = list(batch.chunks)
        try:
            chunks.extend(map(self._recv, (size,), flags))
        except BlockingIOError:
            return
        except TimeoutError:  # of the plugin
            raise
        except OSError:
            raise self._closed(batch) from None
        if not chunks[-1]:
            raise self._closed(batch)

    def _closed(self, batch: _Batch) -> ConnectionClosed:
        """Make the error about a connection that Kong closed, with the first call that Kong did not answer before."""
        with contextlib.suppress(OSError):
            while chunk := self._recv(_CHUNK, socket.MSG_DONTWAIT):
                batch.chunks = [*batch.chunks, chunk]
        data, place, answered = b"".join(batch.chunks), 0, 0
        with contextlib.suppress(WireError):
            while (end := place + frame_size([data[place : place + PREFIX_SIZE]])) <= len(data):
                place, answered = end, answered + 1
        return ConnectionClosed(next(iter(_unanswered(batch)[answered:]), None))


def _is_one_frame(data: bytes) -> bool:
    """Whether bytes are one whole frame, as nearly all pieces that arrive."""
    return int.from_bytes(data[:PREFIX_SIZE], _ORDER) == len(data) - PREFIX_SIZE


def _unanswered(batch: _Batch) -> list[Sent]:
    """List the calls whose replies were not read when the exchange began, those of earlier ones first."""
    calls = batch.calls or []
    if calls and calls[-1][1] is None:
        calls = calls[:-1]
    return [*batch.owed, *map(_sent_of, calls)]
