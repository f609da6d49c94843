"""``Value`` messages, and those that hold some, at any depth: the protobuf library reads 100 nested messages.

A client decides how deeply a body is nested that a plugin reads by ``kong.request.get_body``: that must not fail.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from kong_pdk.wire.errors import WireError
from kong_pdk.wire.text import decode
from kong_pdk.wire.values import read_number

_Span: TypeAlias = tuple[int, int]
_Todo: TypeAlias = list[tuple[_Span, Any, Any]]

_VARINT, _EIGHT_BYTES, _SPAN, _FOUR_BYTES = 0, 1, 2, 5
_DOUBLE = struct.Struct("<d")
_VARINT_BITS = 64


def read_deep(kind: str, payload: bytes) -> Any:
    """Give what a message holds, however deeply it is nested: of a ``KV`` the name and the value.

    :param kind: one of :data:`DEEP`.
    :raises WireError: the bytes are no such message.
    """
    root: list[Any] = [None]
    todo: _Todo = []
    read = _READERS[kind]
    root[0] = read(payload, (0, len(payload)), todo)
    while todo:  # no recursion: Python's own limit is not far away either
        span, container, key = todo.pop()
        container[key] = _value(payload, span, todo)
    return root[0]


def _value(data: bytes, span: _Span, todo: _Todo) -> Any:
    value: Any = None
    for number, wire_type, content in _fields(data, span):
        if wire_type == _SPAN and number == 3:
            value = decode(data[content[0] : content[1]])
        elif wire_type == _SPAN and number in (5, 6):
            value = (_struct if number == 5 else _list)(data, content, todo)
        elif wire_type == _EIGHT_BYTES and number == 2:
            value = read_number(_DOUBLE.unpack_from(data, content[0])[0])
        elif wire_type == _VARINT and number in (1, 4):
            value = bool(content[0]) if number == 4 else None
    return value


def _struct(data: bytes, span: _Span, todo: _Todo) -> dict[str, Any]:
    # Of two entries with one key the last one counts.
    values = dict(_entry(data, entry) for number, kind, entry in _fields(data, span) if (number, kind) == (1, _SPAN))
    found: dict[str, Any] = dict.fromkeys(values)
    todo.extend((value, found, key) for key, value in values.items() if value is not None)
    return found


def _entry(data: bytes, span: _Span) -> tuple[str, _Span | None]:
    """Give the name in an entry of a struct, or in a ``KV`` message, and where its value is."""
    key, value = "", None
    for number, kind, content in _fields(data, span):
        if kind == _SPAN and number == 1:
            key = decode(data[content[0] : content[1]])
        elif kind == _SPAN and number == 2:
            value = content
    return key, value


def _kv(data: bytes, span: _Span, todo: _Todo) -> list[Any]:
    key, value = _entry(data, span)
    found = [key, None]
    if value is not None:
        todo.append((value, found, 1))
    return found


def _list(data: bytes, span: _Span, todo: _Todo) -> list[Any]:
    items = [content for number, kind, content in _fields(data, span) if (number, kind) == (1, _SPAN)]
    found: list[Any] = [None] * len(items)
    todo.extend((item, found, place) for place, item in enumerate(items))
    return found


_READERS: dict[str, Callable[[bytes, _Span, _Todo], Any]] = {
    "Value": _value,
    "Struct": _struct,
    "ListValue": _list,
    "KV": _kv,
}
DEEP = frozenset(_READERS)
"""The messages that :func:`read_deep` reads."""


def _fields(data: bytes, span: _Span) -> Iterator[tuple[int, int, _Span]]:
    """Give the fields of a message: number, wire type, and where its content is; of a varint its value, twice."""
    place, end = span
    while place < end:
        tag, place = _varint(data, place, end)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, place = _varint(data, place, end)
            yield number, wire_type, (value, value)
            continue
        if wire_type == _SPAN:
            length, place = _varint(data, place, end)
        elif wire_type in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if wire_type == _EIGHT_BYTES else 4
        else:
            raise WireError(f"a field of wire type {wire_type}")
        if number == 0 or length > end - place:
            raise WireError("a field ends behind its message" if number else "a field without number")
        yield number, wire_type, (place, place + length)
        place += length


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, _VARINT_BITS + 6, 7):
        if place >= end:
            raise WireError("a number without end")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise WireError("a number that is too long")
