"""What a worker knows of the other workers of its server: where their steps belong, and how many connections they have.

Forwards a step of MsgPack:1, which brings the value of a PDK call, to the worker whose event it belongs to.

Kong sends a step on any connection, and so to any worker. Each worker has an inbox, a unix datagram socket. To forward
a step, a worker makes a connection, sends one end of it to the inbox of the event's worker, which serves it like a
connection of Kong, and keeps the other end for further steps.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import socket
import time
from collections.abc import Sequence

from kong_pdk.server.event_ids import owner_of
from kong_pdk.wire.msgpack_codec import Messages
from kong_pdk.wire.wire_errors import WireError

_log = logging.getLogger(__name__)
_CHUNK = 64 * 1024
_HAND_OVER_SECONDS = 5.0
_LEAST_SECONDS = 0.001  # settimeout(0) would make the socket non-blocking
_MOST_IDLE = 64
_COUNT_SIZE = 4
_NOBODY = 2**31 - 1
ANSWER_SECONDS = 65.0
"""How long a forwarded step waits for the handler's next call or its end; longer than the 60 s that Kong waits."""


class PeerGone(Exception):
    """The worker of the event has ended, and the event with it."""


class PeerSilent(PeerGone):
    """The worker of the event did not answer in time."""


class ConnectionCounts:
    """How many connections of Kong each worker has, in memory that the workers share."""

    def __init__(self, workers: int) -> None:
        """To be made before the workers are forked."""
        self._counts = memoryview(mmap.mmap(-1, workers * _COUNT_SIZE)).cast("i")

    def set(self, slot: int, count: int) -> None:
        """Note the number of a worker's connections."""
        self._counts[slot] = count

    def leave_out(self, slot: int) -> None:
        """Note that a worker has ended, so that no other one waits for it."""
        self._counts[slot] = _NOBODY

    def has_least(self, slot: int) -> bool:
        """Whether no other worker has fewer connections."""
        return self._counts[slot] <= min(self._counts)


class Peers:
    """The connections of a worker to the other workers."""

    def __init__(
        self, slot: int, inbox: socket.socket, outboxes: Sequence[socket.socket], counts: ConnectionCounts
    ) -> None:
        """:param slot: the number of this worker.

        :param inbox: where other workers send connections.
        :param outboxes: lead to the inboxes of all workers, by number.
        """
        self.slot = slot
        self._counts = counts
        counts.set(slot, 0)
        self.inbox = inbox
        self._outboxes = outboxes
        self._idle: dict[int, list[socket.socket]] = {}
        self._keep_idle = True

    def note_connections(self, count: int) -> None:
        """Note how many connections of Kong this worker has."""
        self._counts.set(self.slot, count)

    @property
    def has_turn(self) -> bool:
        """Whether this worker should take the next connection of Kong: no other one has fewer."""
        return self._counts.has_least(self.slot)

    def is_elsewhere(self, event_id: int) -> bool:
        """Whether an event belongs to another worker."""
        owner = owner_of(event_id)
        return owner != self.slot and owner < len(self._outboxes)

    def sockets(self) -> list[socket.socket]:
        """List the open sockets, which a forked child must not keep."""
        return [self.inbox, *self._outboxes, *(each for idle in self._idle.values() for each in idle)]

    def receive(self) -> socket.socket | None:
        """Take a connection from the inbox; None where there is none."""
        try:
            _, descriptors, _, _ = socket.recv_fds(self.inbox, 1, 1, socket.MSG_DONTWAIT)
        except OSError:
            return None
        if not descriptors:  # this process had no free descriptor: the kernel closed it, and the sender sees that
            return None
        os.set_inheritable(descriptors[0], False)
        return socket.socket(fileno=descriptors[0])

    def relay(self, event_id: int, request: bytes) -> bytes:
        """Send a request to the worker of an event, and return the response.

        :raises PeerGone: the worker has ended.
        :raises PeerSilent: the worker does not answer.
        """
        owner = owner_of(event_id)
        idle = self._idle.setdefault(owner, [])
        with contextlib.suppress(IndexError):
            connection = idle.pop()
            try:
                return self._ask(connection, owner, request)
            except PeerSilent:
                raise
            except PeerGone:  # an old connection, to a worker that has ended and was replaced
                pass
        return self._ask(self._connect(owner), owner, request)

    def close_idle(self) -> None:
        """Close the idle connections, and keep none from now on."""
        self._keep_idle = False
        for idle in list(self._idle.values()):
            with contextlib.suppress(IndexError):  # another thread may take a connection at the same time
                while True:
                    idle.pop().close()

    def _ask(self, connection: socket.socket, owner: int, request: bytes) -> bytes:
        try:
            response = _exchange(connection, request)
        except BaseException:
            connection.close()
            raise
        idle = self._idle[owner]
        if self._keep_idle and len(idle) < _MOST_IDLE:
            idle.append(connection)
        else:
            connection.close()
        return response

    def _connect(self, owner: int) -> socket.socket:
        try:
            kept, given = socket.socketpair()
        except OSError as error:  # out of file descriptors
            raise PeerGone from error
        with given:
            try:
                socket.send_fds(self._outboxes[owner], [b"\0"], [given.fileno()])
            except OSError as error:
                kept.close()
                raise PeerGone from error
        return kept


def _exchange(connection: socket.socket, request: bytes) -> bytes:
    """Send a request and read the whole response; ``Messages`` limits its length."""
    messages, received = Messages(), bytearray()
    deadline = time.monotonic() + ANSWER_SECONDS
    try:
        connection.settimeout(ANSWER_SECONDS)
        connection.sendall(request)
        while True:
            connection.settimeout(max(deadline - time.monotonic(), _LEAST_SECONDS))
            data = connection.recv(_CHUNK)
            if not data:
                raise PeerGone
            received += data
            if messages.feed(data):
                return bytes(received)
    except TimeoutError as error:
        _log.error("a worker did not answer another worker within %g s", ANSWER_SECONDS)
        raise PeerSilent from error
    except (OSError, WireError) as error:
        raise PeerGone from error


def make_inbox() -> tuple[socket.socket, socket.socket]:
    """Make a worker's inbox: the end that it reads from, and the end that the other workers write to."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    writer.settimeout(_HAND_OVER_SECONDS)
    return reader, writer
