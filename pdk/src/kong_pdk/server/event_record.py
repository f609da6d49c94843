"""What a connection is at: an event, another call, or nothing.

A worker writes it into memory that it shares with its master. When the worker has ended, the master finds there what
Kong still waits for, and answers in its place.
"""

from __future__ import annotations

import mmap
from struct import Struct
from time import monotonic
from typing import NamedTuple, TypeAlias

from kong_pdk.protocol import PHASES

Record: TypeAlias = memoryview | bytearray

SIZE = 32
MOST_CONNECTIONS = 65536
"""A connection has the number of its descriptor. For one with a higher number the master does not answer."""

# Kinds of bytes in a record, by place.
STATE = 8
PHASE = 9
OWED = 10
"""How many replies to calls without a result will come, on an idle connection of ProtoBuf:1."""

# States.
IDLE = 0
READING = 1
"""The worker reads, or has read a part of a message, so that nobody else can read the rest."""
PROTOBUF_EVENT = 2
PROTOBUF_ANSWER = 3
"""The end of an event is being sent: it is not known whether Kong has it."""
PROTOBUF_CALL = 4
"""Kong waits for the answer to a call that is no event."""
MSGPACK_EVENT = 5
"""Kong waits for the next call of a handler, or its end."""
MSGPACK_ANSWER = 6
MSGPACK_CALL = 7
MSGPACK_UNREAD = 8
"""A request was read in part."""
MSGPACK_CALL_UNREAD = 9
"""The same for a request that is no event."""
CUT = 10
"""The worker has sent a part of a message."""

UNDER_WAY = frozenset({PROTOBUF_EVENT, PROTOBUF_ANSWER, PROTOBUF_CALL, MSGPACK_EVENT, MSGPACK_ANSWER, MSGPACK_CALL})
"""The states in which Kong waits for the worker."""

OPEN = 0x80
"""Added to the number of a phase: a failure of its plugin lets the request pass."""

PHASE_NUMBERS = {name: number for number, name in enumerate(PHASES, 1)}
"""The numbers of the phases in a record; 0 for a phase that Kong does not have."""

_PHASE_NAMES = ("access", *PHASES)
_PROTOBUF = Struct("=dBBBB16s")
_MSGPACK = Struct("=dBB6xQ")
_DUE = Struct("=d")
_write_protobuf, _write_msgpack = _PROTOBUF.pack_into, _MSGPACK.pack_into


class RecordTable:
    """The records of a worker's connections, by descriptor. To be made before the worker is forked."""

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, MOST_CONNECTIONS * SIZE))

    def of(self, number: int) -> memoryview | None:
        """Give the record of a connection; None for a number that has none."""
        if not 0 <= number < MOST_CONNECTIONS:
            return None
        return self._memory[number * SIZE : (number + 1) * SIZE]


class Noted(NamedTuple):
    """What a record says."""

    state: int
    phase: str
    is_open: bool
    due: float
    """When it has taken too long, by ``time.monotonic``; infinite for no limit."""
    owed: int
    sequence: bytes
    """The field of the sequence number of an event of ProtoBuf:1."""
    request: int
    """The id of a request of MsgPack:1."""


def note_protobuf_event(record: Record, timeout: float, phase: int, sequence: bytes) -> None:
    """Note that Kong waits for an event of ProtoBuf:1.

    :param timeout: how long it may take, in seconds.
    :param phase: its number, perhaps with :data:`OPEN`.
    :param sequence: the field of the sequence number, as it came.
    """
    _write_protobuf(record, 0, monotonic() + timeout, PROTOBUF_EVENT, phase, 0, len(sequence), sequence)


def note_msgpack_request(record: Record, due: float, state: int, phase: int, request: int) -> None:
    """Note that Kong waits for the response to a request of MsgPack:1.

    :param due: see :attr:`Noted.due`.
    :param state: ``MSGPACK_EVENT``, ``MSGPACK_CALL`` or ``MSGPACK_UNREAD``.
    :param phase: its number, perhaps with :data:`OPEN`.
    """
    _write_msgpack(record, 0, due, state, phase, request & 0xFFFF_FFFF_FFFF_FFFF)


def set_due(record: Record, due: float) -> None:
    """Set :attr:`Noted.due`."""
    _DUE.pack_into(record, 0, due)


def due_of(record: Record) -> float:
    """Give :attr:`Noted.due`."""
    return float(_DUE.unpack_from(record)[0])


def read_record(record: Record) -> Noted:
    """Read a record."""
    due, state, phase, owed, length, sequence = _PROTOBUF.unpack_from(record)
    request = _MSGPACK.unpack_from(record)[3]
    number = phase & ~OPEN
    name = _PHASE_NAMES[number] if number < len(_PHASE_NAMES) else _PHASE_NAMES[0]
    return Noted(state, name, bool(phase & OPEN), due, owed, sequence[:length], request)
