"""Encodes and decodes the arguments of PDK calls over ProtoBuf:1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kong_pdk.wire.messages import message_class
from kong_pdk.wire.pdk_functions import Method
from kong_pdk.wire.pdk_values import json_text
from kong_pdk.wire.pdk_values.conversion import are_short_texts
from kong_pdk.wire.pdk_values.protobuf_values import (
    DEEP,
    fill_list,
    fill_struct,
    fill_value,
    message_of,
    read_deep,
    read_message,
    read_struct,
    read_value,
)
from kong_pdk.wire.protobuf_codec import MAX_FRAME, parse
from kong_pdk.wire.text import decode, encode
from kong_pdk.wire.wire_errors import ArgumentError, WireError, too_deep

_DEFAULT_MAXIMUM = 100  # Kong's own default for headers and query arguments; a missing argument arrives as 0, an error
LOG_LINES = frozenset(
    {"kong.log", "kong.log.inspect"}
    | {f"kong.log.{level}" for level in ("alert", "crit", "err", "warn", "notice", "info", "debug")}
)
"""Functions that print their arguments."""

_INT32 = range(-(2**31), 2**31)


def encode_arguments(method: Method, args: Sequence[object]) -> bytes:
    """Encode the arguments of a call, as a plugin server does.

    :param args: positional arguments; None for an argument that is left out.
    :raises ArgumentError: the message cannot hold an argument.
    """
    name = method.function
    present = list(args)
    while present and present[-1] is None:
        present.pop()
    message = message_class(method.input)()
    try:
        _FILL[method.input](message, name, present)
        payload = bytes(message.SerializeToString())
    except ArgumentError:
        raise
    except RecursionError as error:
        raise too_deep(name) from error
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentError(f"{name}: {error}") from error
    if len(payload) > MAX_FRAME:
        raise ArgumentError(f"{name}: the arguments are {len(payload)} bytes long, and at most {MAX_FRAME} can be sent")
    return payload


def encode_texts(method: Method, args: Sequence[Any]) -> bytes | None:
    """Encode arguments that are short texts in ASCII, without the protobuf library, in the same bytes.

    :return: None for other arguments, and for a message that does not take so many texts.
    """
    write = _WRITE_TEXTS.get(method.input)
    if write is None or not are_short_texts(args):
        return None
    return write([value.encode() for value in args])


def _write_string(texts: list[bytes]) -> bytes | None:
    if len(texts) != 1:
        return None
    return _field(1, texts[0]) if texts[0] else b""


def _write_kv(texts: list[bytes]) -> bytes | None:
    if len(texts) != 2:
        return None
    return (_field(1, texts[0]) if texts[0] else b"") + _field(2, _field(3, texts[1]))


def _write_list(texts: list[bytes]) -> bytes:
    return b"".join([_field(1, _field(3, text)) for text in texts])


def _field(number: int, content: bytes) -> bytes:
    """Write a field with a content of less than 128 bytes."""
    return bytes((number << 3 | 2, len(content))) + content


_WRITE_TEXTS: dict[str, Callable[[list[bytes]], bytes | None]] = {
    "Empty": lambda texts: None if texts else b"",
    "String": _write_string,
    "ByteString": _write_string,
    "KV": _write_kv,
    "ListValue": _write_list,
}


def _carried(name: str, value: Any) -> Any:
    """Give a value without the keys of dicts that are None, as in Lua.

    :raises ArgumentError: it has a value that Kong would change: false into nil, or null into a string.
    """
    if value is False or value is None:
        lost = "False arrives as nil" if value is False else "None arrives as the text NULL_VALUE"
        raise ArgumentError(
            f"{name}: over ProtoBuf:1 a {lost} in Kong; send another value, or use MsgPack:1 "
            "(KONG_PYTHON_PROTOCOL=msgpack)"
        )
    if isinstance(value, Mapping):
        return {key: _carried(name, item) for key, item in value.items() if item is not None}
    return [_carried(name, item) for item in value] if isinstance(value, (list, tuple)) else value


def _header(name: str, value: Any) -> Any:
    """Give the value or values of a header: false becomes text, as in Kong."""
    if isinstance(value, (list, tuple)):
        return [_header(name, item) for item in value]
    return "false" if value is False else _carried(name, value)


def _headers(name: str, value: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: _header(name, item) for key, item in value.items() if item is not None}


def as_form(value: Mapping[Any, Any]) -> dict[Any, Any]:
    """Give the arguments of a query or form without false and nil, which Kong leaves out."""
    lists = {
        key: [each for each in item if each is not False and each is not None]
        if isinstance(item, (list, tuple))
        else item
        for key, item in value.items()
    }
    return {key: item for key, item in lists.items() if item is not False and item is not None and item != []}


def _at_most(name: str, args: list[Any], most: int) -> None:
    if len(args) > most:
        raise ArgumentError(f"{name} takes at most {most} argument{'s' * (most != 1)} over ProtoBuf:1, not {len(args)}")


def _expect(name: str, position: int, args: list[Any], kinds: tuple[type, ...], words: str) -> Any:
    value = args[position] if len(args) > position else None
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ArgumentError(f"{name}: argument {position + 1} must be {words}, not {type(value).__name__}")
    return value


def _string(name: str, position: int, args: list[Any]) -> bytes:
    value = _expect(name, position, args, (str, bytes), "a string")
    return encode(value) if isinstance(value, str) else value


def _integer(name: str, position: int, args: list[Any]) -> int:
    value = _expect(name, position, args, (int, float), "an integer")
    if isinstance(value, float) and not value.is_integer():
        raise ArgumentError(f"{name}: argument {position + 1} must be an integer, not {value}")
    if int(value) not in _INT32:
        raise ArgumentError(f"{name}: argument {position + 1} must fit into 32 bits, not {value}")
    return int(value)


def _fill_empty(message: Any, name: str, args: list[Any]) -> None:
    _at_most(name, args, 0)


def _fill_string(message: Any, name: str, args: list[Any]) -> None:
    _at_most(name, args, 1)
    message.v = _string(name, 0, args)


def _fill_int(message: Any, name: str, args: list[Any]) -> None:
    _at_most(name, args, 1)
    message.v = _integer(name, 0, args) if args or name.endswith("set_status") else _DEFAULT_MAXIMUM


def _fill_bool(message: Any, name: str, args: list[Any]) -> None:
    _at_most(name, args, 1)
    if args:
        message.v = _expect(name, 0, args, (bool,), "True or False")


def _fill_kv(message: Any, name: str, args: list[Any]) -> None:
    _at_most(name, args, 2)
    message.k = _string(name, 0, args)
    if len(args) == 2:  # a missing value is nil in Kong
        fill_value(message.v, _header(name, args[1]) if name.endswith("_header") else _carried(name, args[1]))


def _fill_list(message: Any, name: str, args: list[Any]) -> None:
    if name in LOG_LINES:
        fill_list(message, [written_out(item) for item in args])
        return
    values = list(args)
    if name == "kong.response.error" and len(values) == 3 and isinstance(values[2], Mapping):
        values[2] = _headers(name, values[2])
    fill_list(message, [_carried(name, item) for item in values])


def written_out(value: Any) -> Any:
    """Replace None and False, which ProtoBuf:1 would change, by the texts that Lua prints for them in a log line."""
    if value is None or value is False:
        return "nil" if value is None else "false"
    if isinstance(value, Mapping):
        return {name: written_out(item) for name, item in value.items()}
    return [written_out(item) for item in value] if isinstance(value, (list, tuple)) else value


def _fill_struct(message: Any, name: str, args: list[Any]) -> None:
    _at_most(name, args, 1)
    value = _expect(name, 0, args, (Mapping,), "a dict")
    if name.endswith("_query"):
        fill_struct(message, _carried(name, as_form(value)))
    else:
        fill_struct(message, _headers(name, value))


def _fill_exit(message: Any, name: str, args: list[Any]) -> None:
    _at_most(name, args, 3)
    message.status = _integer(name, 0, args)
    body = args[1] if len(args) > 1 else None
    headers = dict(_expect(name, 2, args, (Mapping,), "a dict")) if len(args) > 2 else {}
    if isinstance(body, (str, bytes)):
        message.body = encode(body) if isinstance(body, str) else body
    elif isinstance(body, (Mapping, list, tuple)):
        # Over this protocol Kong's JSON of a table would lose false and null, so the text is made here.
        message.body = encode(json_text.text(name, body))
        headers = json_text.with_type(headers)
    elif body is not None:
        raise ArgumentError(f"{name}: argument 2 must be a dict, a list, a string or bytes, not {type(body).__name__}")
    if headers:
        fill_struct(message.headers, _headers(name, headers))


def _fill_consumer_spec(message: Any, name: str, args: list[Any]) -> None:
    _at_most(name, args, 2)
    message.id = _string(name, 0, args)
    if len(args) == 2:
        message.by_username = _expect(name, 1, args, (bool,), "True or False")


def _fill_authenticate(message: Any, name: str, args: list[Any]) -> None:
    _at_most(name, args, 2)
    for position, (field, kind) in enumerate((("consumer", "Consumer"), ("credential", "AuthenticatedCredential"))):
        if len(args) > position and args[position] is not None:
            value = _expect(name, position, args, (Mapping,), "a dict")
            _check_fields(name, field, kind, value)
            getattr(message, field).CopyFrom(message_of(kind, value))


def _check_fields(name: str, entity: str, kind: str, value: Mapping[Any, Any]) -> None:
    known = message_class(kind).DESCRIPTOR.fields_by_name
    for field, item in value.items():
        if item and field in known and known[field].is_repeated and not isinstance(item, (list, tuple)):
            raise ArgumentError(f"{name}: {entity} {field} must be a list, not {type(item).__name__}")
    lost = [str(field) for field, item in value.items() if field not in known and item is not None]
    if lost:
        raise ArgumentError(
            f"{name}: over ProtoBuf:1 Kong's own message of the {entity} does not have {', '.join(lost)}; leave out "
            "what is not needed, or give both consumer and credential where Kong's interface file is extended "
            "(kong-python extend-interface), or use MsgPack:1 (KONG_PYTHON_PROTOCOL=msgpack)"
        )


def _fill_target(message: Any, name: str, args: list[Any]) -> None:
    _at_most(name, args, 2)
    message.host = _string(name, 0, args)
    message.port = _integer(name, 1, args)


_FILL: dict[str, Callable[[Any, str, list[Any]], None]] = {
    "Empty": _fill_empty,
    "String": _fill_string,
    "ByteString": _fill_string,
    "Int": _fill_int,
    "Bool": _fill_bool,
    "KV": _fill_kv,
    "ListValue": _fill_list,
    "Struct": _fill_struct,
    "ExitArgs": _fill_exit,
    "ConsumerSpec": _fill_consumer_spec,
    "AuthenticateArgs": _fill_authenticate,
    "Target": _fill_target,
}
INPUTS = frozenset(_FILL)
"""The short names of the messages that can be arguments."""


def decode_arguments(method: Method, payload: bytes) -> list[Any]:
    """Decode the arguments of a call, as Kong does. A missing argument is None where the message shows it.

    :raises WireError: the bytes are not such a message.
    """
    try:
        message = parse(method.input, payload)
    except WireError:
        if method.input not in DEEP:
            raise
        found = read_deep(method.input, payload)
        return [found] if method.input == "Struct" else list(found)
    return _READ_ARGUMENTS[method.input](message)


def _read_kv(message: Any) -> list[Any]:
    return [decode(message.k), read_value(message.v) if message.HasField("v") else None]


def _read_exit(message: Any) -> list[Any]:
    headers = read_struct(message.headers) if message.HasField("headers") else None
    return [message.status, message.body, headers]


def _read_authenticate(message: Any) -> list[Any]:
    return [
        read_message(getattr(message, field)) if message.HasField(field) else None
        for field in ("consumer", "credential")
    ]


_READ_ARGUMENTS: dict[str, Callable[[Any], list[Any]]] = {
    "Empty": lambda message: [],
    "String": lambda message: [decode(message.v)],
    "ByteString": lambda message: [message.v],
    "Int": lambda message: [message.v],
    "Bool": lambda message: [message.v],
    "KV": _read_kv,
    "ListValue": lambda message: [read_value(item) for item in message.values],
    "Struct": lambda message: [read_struct(message)],
    "ExitArgs": _read_exit,
    "ConsumerSpec": lambda message: [decode(message.id), message.by_username],
    "AuthenticateArgs": _read_authenticate,
    "Target": lambda message: [decode(message.host), message.port],
}
