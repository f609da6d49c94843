"""Converts Python values to messages of ProtoBuf:1 and back.

The protobuf library limits nesting to 100 messages. A client decides how deeply a body is nested that a plugin reads by
``kong.request.get_body``, so :func:`read_deep` reads ``Value`` messages, and messages that contain them, at any depth.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from kong_pdk.wire.messages import message_class
from kong_pdk.wire.text import decode, encode
from kong_pdk.wire.wire_errors import WireError

_EXACT = 2**53
_Span: TypeAlias = tuple[int, int]
_Todo: TypeAlias = list[tuple[_Span, Any, Any]]

_VARINT, _EIGHT_BYTES, _SPAN, _FOUR_BYTES = 0, 1, 2, 5
_DOUBLE = struct.Struct("<d")
_VARINT_BITS = 64


def fill_value(message: Any, value: object) -> None:
    """Set a ``Value`` message to a Python value.

    :raises TypeError: a type that JSON does not have, other than bytes.
    """
    if value is None:
        message.null = 0
    elif isinstance(value, bool):
        message.bool = value
    elif isinstance(value, (int, float)):
        message.number = float(value)
    elif isinstance(value, (str, bytes)):
        message.string = encode(value) if isinstance(value, str) else value
    elif isinstance(value, Mapping):
        message.struct.SetInParent()
        fill_struct(message.struct, value)
    elif isinstance(value, (list, tuple)):
        message.list.SetInParent()
        fill_list(message.list, value)
    else:
        raise TypeError(f"a value of type {type(value).__name__} cannot be sent to Kong")


def fill_struct(message: Any, value: Mapping[Any, object]) -> None:
    """Set a ``Struct`` message to a mapping; keys of other types become text."""
    for key, item in value.items():
        entry = message.fields.add(key=key if isinstance(key, bytes) else encode(str(key)))
        fill_value(entry.value, item)


def fill_list(message: Any, value: list[object] | tuple[object, ...]) -> None:
    """Set a ``ListValue`` message to a list."""
    for item in value:
        fill_value(message.values.add(), item)


def read_value(message: Any) -> object:
    """Give the content of a ``Value`` message; numbers without a fraction become integers."""
    kind = message.WhichOneof("kind")
    if kind == "string":
        return decode(message.string)
    if kind == "number":
        return read_number(message.number)
    if kind == "bool":
        return bool(message.bool)
    if kind == "struct":
        return read_struct(message.struct)
    if kind == "list":
        return [read_value(item) for item in message.list.values]
    return None


def read_number(number: float) -> int | float:
    """Give an integer where a double holds one exactly."""
    return int(number) if number.is_integer() and abs(number) <= _EXACT else number


def read_struct(message: Any) -> dict[str, object]:
    """Give the content of a ``Struct`` message."""
    return {decode(entry.key): read_value(entry.value) for entry in message.fields}


def message_of(name: str, value: Mapping[str, Any]) -> Any:
    """Make the message of an entity (``Consumer``, ``Route``...) from a mapping; keys without a field are ignored.

    :param name: the short name of the message.
    :param value: the fields by name; a message in a field, ``service`` of a route for example, is a mapping.
    :raises TypeError: a value does not fit into its field.
    """
    return _fill_message(message_class(name)(), value)


def _fill_message(message: Any, value: Mapping[str, Any]) -> Any:
    for field in message.DESCRIPTOR.fields:
        item = value.get(field.name)
        if item is None:
            continue
        if field.is_repeated:
            _fill_repeated(message, field, item)
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            _fill_message(getattr(message, field.name), item)
        else:
            _set(message, field, item)
    return message


def _set(message: Any, field: Any, item: Any) -> None:
    try:
        setattr(message, field.name, _scalar(field, item))
    except TypeError as error:
        raise TypeError(f"{field.name}: {error}") from None


def _fill_repeated(message: Any, field: Any, items: Any) -> None:
    target = getattr(message, field.name)
    if not isinstance(items, (list, tuple)):
        return
    for item in items:
        if field.message_type is not None:
            _fill_message(target.add(), item)
        else:
            target.append(_scalar(field, item))


def _scalar(field: Any, item: Any) -> Any:
    if field.type == field.TYPE_BYTES and isinstance(item, str):
        return encode(item)
    if field.type in (field.TYPE_INT32, field.TYPE_INT64) and isinstance(item, float) and item.is_integer():
        return int(item)
    return item


def read_message(message: Any) -> dict[str, Any]:
    """Give the message of an entity as a dict of the fields that are set, with decoded text."""
    return {field.name: _read_field(field, value) for field, value in message.ListFields()}


def _read_field(field: Any, value: Any) -> Any:
    if field.is_repeated:
        return [_read_single(field, item) for item in value]
    return _read_single(field, value)


def _read_single(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return read_message(value)
    return decode(value) if isinstance(value, bytes) else value


def read_deep(kind: str, payload: bytes) -> Any:
    """Decode a message without recursion, at any depth.

    :param kind: one of :data:`DEEP`.
    :return: the content of the message; for a ``KV`` a list of the name and the value.
    :raises WireError: the bytes are not such a message.
    """
    root: list[Any] = [None]
    todo: _Todo = []
    read = _READERS[kind]
    root[0] = read(payload, (0, len(payload)), todo)
    while todo:
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
    # Of several entries with the same key the last one counts.
    values = dict(_entry(data, entry) for number, kind, entry in _fields(data, span) if (number, kind) == (1, _SPAN))
    found: dict[str, Any] = dict.fromkeys(values)
    todo.extend((value, found, key) for key, value in values.items() if value is not None)
    return found


def _entry(data: bytes, span: _Span) -> tuple[str, _Span | None]:
    """Give the key in an entry of a struct, or in a ``KV`` message, and the span of its value."""
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
    """Give the fields of a message: number, wire type, and the span of the content; for a varint its value, twice."""
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
            raise WireError("a field ends behind its message" if number else "a field without a number")
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
