"""Encodes and decodes the results of PDK calls over ProtoBuf:1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kong_pdk.wire.messages import message_class
from kong_pdk.wire.pdk_functions import Method
from kong_pdk.wire.pdk_values.protobuf_values import (
    DEEP,
    fill_struct,
    fill_value,
    message_of,
    read_deep,
    read_message,
    read_number,
    read_struct,
    read_value,
)
from kong_pdk.wire.protobuf_codec import parse
from kong_pdk.wire.text import decode, encode
from kong_pdk.wire.wire_errors import WireError

NIL = b"\x08\x01"
"""Lua's nil in a ``Value``, as Kong writes it: the field ``null`` with the value 1, for which the enum has no name."""


@dataclass(frozen=True)
class RawBody:
    """The result of ``kong.request.get_raw_body``: the content, the path of the file that holds it, or an error."""

    content: bytes | None = None
    path: str | None = None
    error: str | None = None


def encode_result(method: Method, value: Any) -> bytes:
    """Encode the result of a call, as Kong does. In most messages nil and the empty value are the same.

    :param value: the value of the PDK function; a :class:`RawBody` for ``kong.request.get_raw_body``,
        ``{"unnamed": [...], "named": {...}}`` for ``kong.request.get_uri_captures``.
    :raises TypeError, ValueError: the message cannot hold the value.
    """
    kind = method.output
    if kind == "Value" and value is None:
        return NIL
    message = message_class(kind)()
    if kind in _ENTITIES:
        message = message_of(kind, value) if isinstance(value, Mapping) else message
    elif value is not None:
        _FILL_RESULT[kind](message, value)
    return bytes(message.SerializeToString())


def _set_v(message: Any, value: Any) -> None:
    message.v = encode(value) if isinstance(value, str) else value


def _set_raw_body(message: Any, value: RawBody) -> None:
    if value.path is not None:
        message.body_filepath = encode(value.path)
    elif value.error is not None:
        message.error = encode(value.error)
    else:
        message.content = value.content or b""


def _set_captures(message: Any, value: Mapping[str, Any]) -> None:
    message.unnamed.extend(encode(item) for item in value["unnamed"])
    for key, item in value["named"].items():
        message.named.add(key=encode(key), value=encode(item))


_ENTITIES = ("Route", "Service", "Consumer", "AuthenticatedCredential", "MemoryStats")

_FILL_RESULT: dict[str, Callable[[Any, Any], None]] = {
    "Empty": lambda message, value: None,
    "String": _set_v,
    "ByteString": _set_v,
    "Int": _set_v,
    "Number": _set_v,
    "Bool": _set_v,
    "Value": fill_value,
    "Struct": fill_struct,
    "RawBodyResult": _set_raw_body,
    "UriCapturesResult": _set_captures,
}
OUTPUTS = frozenset(_ENTITIES) | frozenset(_FILL_RESULT)
"""The short names of the messages that can be results."""


def decode_result(method: Method, payload: bytes) -> Any:
    """Decode the result of a call, as a plugin server does.

    :return: a Python value; "" and 0 for nil and for the empty value, which are the same in the message; entities as
        dicts of the fields that are set, None without any; a :class:`RawBody` for ``kong.request.get_raw_body``.
    :raises WireError: the bytes are not such a message.
    """
    kind = method.output
    try:
        message = parse(kind, payload)
    except WireError:
        if kind not in DEEP:
            raise
        return read_deep(kind, payload)
    if kind in _ENTITIES:
        return read_message(message) or None
    return _READ_RESULT[kind](message)


def _read_raw_body(message: Any) -> RawBody:
    kind = message.WhichOneof("kind")
    if kind == "body_filepath":
        return RawBody(path=decode(message.body_filepath))
    if kind == "error":
        return RawBody(error=decode(message.error))
    return RawBody(content=message.content)


def _read_captures(message: Any) -> dict[str, Any]:
    return {
        "unnamed": [decode(item) for item in message.unnamed],
        "named": {decode(item.key): decode(item.value) for item in message.named},
    }


_READ_RESULT: dict[str, Callable[[Any], Any]] = {
    "Empty": lambda message: None,
    "String": lambda message: decode(message.v),
    "ByteString": lambda message: message.v,
    "Int": lambda message: message.v,
    "Number": lambda message: read_number(message.v),
    "Bool": lambda message: message.v,
    "Value": read_value,
    "Struct": read_struct,
    "RawBodyResult": _read_raw_body,
    "UriCapturesResult": _read_captures,
}
