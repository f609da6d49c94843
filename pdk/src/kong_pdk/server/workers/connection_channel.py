"""Through which a worker gives its master a duplicate of each connection, and the master passes connections on.

The connections of a worker that ends stay open by that. The master answers what Kong still waits for, and gives the
idle ones to other workers.
"""

from __future__ import annotations

import contextlib
import os
import socket
from struct import Struct
from typing import NamedTuple

from kong_pdk.server.event_record import SIZE, RecordTable
from kong_pdk.wire.wire_errors import WireError

NEW = -1
"""The token of a connection that the worker has accepted."""

REFUSED = -1
"""In the place of a descriptor: the worker cannot take a connection."""

_REGISTERED = Struct("=ii")
_PASSED_ON = Struct("=iB")


def make_channel() -> tuple[socket.socket, socket.socket]:
    """Make the ends of the master and of a worker; both are non-blocking, and keep the bounds of messages.

    :raises OSError: no more files.
    """
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


class Registered(NamedTuple):
    """What a worker says about a connection."""

    number: int
    """Its descriptor in the worker, or :data:`REFUSED`."""
    token: int
    """Which of the connections that the master has passed on; :data:`NEW` for none."""
    duplicate: socket.socket | None
    """The duplicate of a new one; None where no descriptor is free here."""


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """Receive a message. That the worker has not read the last ones, before its end, comes before what it has said."""
    size = _REGISTERED.size + 1
    try:
        data, descriptors, _, _ = socket.recv_fds(channel, size, 1, socket.MSG_DONTWAIT)
    except ConnectionResetError:
        data, descriptors, _, _ = socket.recv_fds(channel, size, 1, socket.MSG_DONTWAIT)
    return data, descriptors


def receive_registered(channel: socket.socket) -> Registered | None:
    """Read the next thing that a worker says, in its master; None where there is nothing.

    :raises ConnectionError: the worker has closed its end.
    :raises WireError: it has sent something else.
    """
    try:
        data, descriptors = _receive(channel)
    except BlockingIOError:
        return None
    if not data:
        raise ConnectionError
    if len(data) != _REGISTERED.size:
        raise WireError("has sent an invalid message about a connection to its master")
    number, token = _REGISTERED.unpack(data)
    return Registered(number, token, _opened(descriptors[0]) if descriptors else None)


def pass_on(channel: socket.socket, connection: socket.socket, token: int, owed: int) -> bool:
    """Give a worker a duplicate of a connection; it says the token when it has it.

    :param owed: see :data:`~kong_pdk.server.event_record.OWED`.
    :return: False where the worker has not read earlier ones yet, or has ended.
    """
    try:
        socket.send_fds(channel, [_PASSED_ON.pack(token, owed)], [connection.fileno()], socket.MSG_DONTWAIT)
    except OSError:
        return False
    return True


class PassedOn(NamedTuple):
    """A connection that a worker gets from its master."""

    connection: socket.socket
    token: int
    owed: int


class ConnectionChannel:
    """The end of a worker."""

    def __init__(self, channel: socket.socket, records: RecordTable) -> None:
        self.socket = channel
        self._records = records

    def register(self, connection: socket.socket, token: int = NEW) -> memoryview | None:
        """Tell the master about a connection, before anything of it is read.

        :return: its record; None for a connection that the master cannot hold.
        :raises BlockingIOError: the master has not read earlier ones yet.
        """
        number = connection.fileno()
        record = self._records.of(number)
        if record is None:
            return None
        record[:] = bytes(SIZE)
        try:
            socket.send_fds(
                self.socket, [_REGISTERED.pack(number, token)], [number] if token == NEW else [], socket.MSG_DONTWAIT
            )
        except BlockingIOError:
            raise
        except OSError:  # the master is gone, and this process ends soon; or too many descriptors are on their way
            return None
        return record

    def take(self) -> PassedOn | None:
        """Take a connection that the master passes on; None where there is none.

        :raises ConnectionError: the master has ended.
        """
        try:
            data, descriptors, _, _ = socket.recv_fds(self.socket, _PASSED_ON.size, 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        if not data:
            raise ConnectionError
        token, owed = _PASSED_ON.unpack(data)
        if descriptors:
            return PassedOn(_opened(descriptors[0]), token, owed)
        with contextlib.suppress(OSError):  # no descriptor is free: the master still has the connection
            self.socket.send(_REGISTERED.pack(REFUSED, token), socket.MSG_DONTWAIT)
        return None


def _opened(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)
