"""Steps of an event that another worker has, over MsgPack:1: they are handed to that worker.

Kong brings the value of a call on any connection, and so to any worker. Each worker has an inbox; who has a step for
it puts one end of a new connection in, which is served there like one of Kong's, and keeps the other end for the next.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Sequence

from kong_pdk.settings import MOST_WORKERS
from kong_pdk.wire.msgpack_codec import Messages
from kong_pdk.wire.wire_errors import WireError

_log = logging.getLogger(__name__)
_CHUNK = 64 * 1024
_HAND_OVER_SECONDS = 5.0
_LEAST_SECONDS = 0.001  # 0 would mean not to wait at all
_MOST_IDLE = 64
ANSWER_SECONDS = 65.0
"""How long a step waits for the handler's next call, or its end. Kong waits for 60 s, and nobody after it."""


class PeerGone(Exception):
    """The worker that has the event has ended, and the event with it."""


class PeerSilent(PeerGone):
    """The worker that has the event has not answered in time."""


def owner_of(event_id: int) -> int:
    """Tell the worker that has an event by its id."""
    return event_id % MOST_WORKERS


class Peers:
    """The other workers, seen from one of them."""

    def __init__(self, slot: int, inbox: socket.socket, outboxes: Sequence[socket.socket]) -> None:
        """:param slot: the number of this worker; the outboxes lead to all workers, by number."""
        self.slot = slot
        self.inbox = inbox
        self._outboxes = outboxes
        self._idle: dict[int, list[socket.socket]] = {}
        self._keep_idle = True

    def is_elsewhere(self, event_id: int) -> bool:
        """Whether an event may be another worker's."""
        owner = owner_of(event_id)
        return owner != self.slot and owner < len(self._outboxes)

    def sockets(self) -> list[socket.socket]:
        """List what is open, for a child to let go."""
        return [self.inbox, *self._outboxes, *(each for idle in self._idle.values() for each in idle)]

    def receive(self) -> socket.socket | None:
        """Wait for a connection in the inbox; None where none can come any more."""
        try:
            while True:
                _, descriptors, _, _ = socket.recv_fds(self.inbox, 1, 1)
                if (
                    descriptors
                ):  # none where this process had no descriptor free: it is closed, and its sender sees that
                    os.set_inheritable(descriptors[0], False)
                    return socket.socket(fileno=descriptors[0])
        except OSError:
            return None

    def relay(self, event_id: int, request: bytes) -> bytes:
        """Send a request to the worker that has an event, and give its response.

        :raises PeerGone: there is no response: the worker has ended, or is silent.
        """
        owner = owner_of(event_id)
        idle = self._idle.setdefault(owner, [])
        with contextlib.suppress(IndexError):
            connection = idle.pop()
            try:
                return self._ask(connection, owner, request)
            except PeerSilent:
                raise
            except PeerGone:  # kept since before that worker ended: another one has its place
                pass
        return self._ask(self._connect(owner), owner, request)

    def close_idle(self) -> None:
        """Close what is kept for later steps, and keep no more."""
        self._keep_idle = False
        for idle in list(self._idle.values()):
            with contextlib.suppress(IndexError):  # a step may take one at the same time
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
    """Send a request and read the whole response; the protocol limits how long it may be."""
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
        _log.error("a worker has not answered another one for %g s", ANSWER_SECONDS)
        raise PeerSilent from error
    except (OSError, WireError) as error:
        raise PeerGone from error


def make_inbox() -> tuple[socket.socket, socket.socket]:
    """Make the two ends of a worker's inbox: the one that it reads, and the one that all the others write to."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    writer.settimeout(_HAND_OVER_SECONDS)
    return reader, writer
