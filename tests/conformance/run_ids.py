"""This run's ids in Kong's recorded bytes, of which every other one stays as it is."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.frames import unpacker_of


def with_ids(raw: bytes, number: int, ids: dict[str, int]) -> bytes:
    """A recorded request with this run's ids in it; every other byte is as Kong wrote it.

    :param ids: by their keys in the request's argument, or ``argument`` for the argument itself.
    """
    unpacker = unpacker_of(raw)
    changes: list[tuple[int, int, int]] = []

    def skip(new: int | None = None) -> None:
        start = unpacker.tell()
        unpacker.skip()
        if new is not None:
            changes.append((start, unpacker.tell(), new))

    unpacker.read_array_header()
    skip()
    skip(number)
    skip()
    unpacker.read_array_header()
    if "argument" in ids:
        skip(ids["argument"])
    elif ids:
        for _ in range(unpacker.read_map_header()):
            skip(ids.get(unpacker.unpack()))
    return _changed(raw, changes)


def _changed(raw: bytes, changes: list[tuple[int, int, int]]) -> bytes:
    """Bytes with integers in place of some parts, from the last to the first, so that places stay true."""
    for start, end, new in reversed(changes):
        raw = raw[:start] + _integer(new) + raw[end:]
    return raw


def _integer(value: int) -> bytes:
    return b"\xce" + value.to_bytes(4, "big")


def with_sequence(raw: bytes, sequence: int, instance: int | None) -> bytes:
    """A recorded RpcCall with this run's sequence number and instance id, its fields in Kong's order."""
    made = b""
    for number, content in _fields(raw):
        if number == 1:
            made += _varint_field(1, sequence)
        elif instance is None:
            made += _bytes_field(number, content)
        else:
            inner = b"".join(
                _varint_field(1, instance) if field == 1 else _bytes_field(field, part)
                for field, part in _fields(content)
            )
            made += _bytes_field(number, inner)
    return made


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message in their order: numbers, and contents (of integers, their varints)."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 0:
            _, end = _varint(message, at)
        elif tag & 7 == 2:
            length, at = _varint(message, at)
            end = at + length
        else:
            raise ValueError(f"Kong's calls have no fields of wire type {tag & 7}")
        yield tag >> 3, message[at:end]
        at = end


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def _encoded(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _varint_field(number: int, value: int) -> bytes:
    """A field that is an integer."""
    return _encoded(number << 3) + _encoded(value & (2**64 - 1))


def _bytes_field(number: int, content: bytes) -> bytes:
    """A field that is a string or a message."""
    return _encoded(number << 3 | 2) + _encoded(len(content)) + content
