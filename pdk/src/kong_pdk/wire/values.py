"""Python values to the messages of ProtoBuf:1 and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kong_pdk.wire.messages import message_class
from kong_pdk.wire.text import decode, encode

_EXACT = 2**53


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
    """Set a ``Struct`` message to a mapping; keys of other kinds become text."""
    for key, item in value.items():
        entry = message.fields.add(key=key if isinstance(key, bytes) else encode(str(key)))
        fill_value(entry.value, item)


def fill_list(message: Any, value: list[object] | tuple[object, ...]) -> None:
    """Set a ``ListValue`` message to a list."""
    for item in value:
        fill_value(message.values.add(), item)


def read_value(message: Any) -> object:
    """Give what a ``Value`` message holds; numbers without a fraction are integers again."""
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
    """Give what a ``Struct`` message holds."""
    return {decode(entry.key): read_value(entry.value) for entry in message.fields}


def message_of(name: str, value: Mapping[str, Any]) -> Any:
    """Make an entity's message (``Consumer``, ``Route``...) of a mapping; what it has no field for is left out.

    Lists that are messages of their own, ``service`` of a route for example, are mappings in ``value``.
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
    """Give an entity's message as a dict of the fields that are set, text decoded."""
    return {field.name: _read_field(field, value) for field, value in message.ListFields()}


def _read_field(field: Any, value: Any) -> Any:
    if field.is_repeated:
        return [_read_single(field, item) for item in value]
    return _read_single(field, value)


def _read_single(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return read_message(value)
    return decode(value) if isinstance(value, bytes) else value
