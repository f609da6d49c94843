"""The arguments of PDK calls over ProtoBuf:1."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kong_pdk.wire.errors import ArgumentError
from kong_pdk.wire.messages import message_class
from kong_pdk.wire.methods import Method
from kong_pdk.wire.protobuf import parse
from kong_pdk.wire.text import decode, encode
from kong_pdk.wire.values import fill_list, fill_struct, fill_value, message_of, read_message, read_struct, read_value

_JSON_TYPE = "application/json; charset=utf-8"
_DEFAULT_MAXIMUM = 100  # Kong's own for headers and query arguments; it refuses the 0 of a missing one
_LOG_LINES = frozenset(
    {"kong.log", "kong.log.inspect"}
    | {f"kong.log.{level}" for level in ("alert", "crit", "err", "warn", "notice", "info", "debug")}
)
_INT32 = range(-(2**31), 2**31)


def encode_arguments(method: Method, args: Sequence[object]) -> bytes:
    """Make the argument message of a call, as a plugin server does.

    :param args: positional arguments; None for those left out.
    :raises ArgumentError: the message has no place for an argument.
    """
    name = method.function
    given = list(args)
    while given and given[-1] is None:
        given.pop()
    message = message_class(method.input)()
    try:
        _FILL[method.input](message, name, given)
        return bytes(message.SerializeToString())
    except ArgumentError:
        raise
    except RecursionError as error:
        raise ArgumentError(f"{name}: a value is nested too deeply to be sent to Kong") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentError(f"{name}: {error}") from error


def _refuse_lossy(name: str, value: object) -> None:
    """Refuse what Kong would turn into something else on the way: false into nil, null into a string."""
    if value is False or value is None:
        lost = "False arrives as nil" if value is False else "None arrives as the text NULL_VALUE"
        raise ArgumentError(
            f"{name}: over ProtoBuf:1 a {lost} in Kong; send another value, or use KONG_PYTHON_PROTOCOL=msgpack"
        )
    items: Sequence[object] = ()
    if isinstance(value, Mapping):
        items = list(value.values())
    elif isinstance(value, (list, tuple)):
        items = value
    for item in items:
        _refuse_lossy(name, item)


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
    if len(args) == 2:  # left out it is nil in Kong, which is what None means
        _refuse_lossy(name, args[1])
        fill_value(message.v, args[1])


def _fill_list(message: Any, name: str, args: list[Any]) -> None:
    if name in _LOG_LINES:
        fill_list(message, [_words(item) for item in args])
        return
    for item in args:
        _refuse_lossy(name, item)
    fill_list(message, args)


def _words(value: Any) -> Any:
    """Write out what would be lost on the way: in a line of the log it reads as Lua prints it."""
    if value is None or value is False:
        return "nil" if value is None else "false"
    if isinstance(value, Mapping):
        return {name: _words(item) for name, item in value.items()}
    return [_words(item) for item in value] if isinstance(value, (list, tuple)) else value


def _fill_headers(message: Any, name: str, args: list[Any]) -> None:
    _at_most(name, args, 1)
    value = _expect(name, 0, args, (Mapping,), "a dict")
    _refuse_lossy(name, value)
    fill_struct(message, value)


def _fill_exit(message: Any, name: str, args: list[Any]) -> None:
    _at_most(name, args, 3)
    message.status = _integer(name, 0, args)
    body = args[1] if len(args) > 1 else None
    headers = dict(_expect(name, 2, args, (Mapping,), "a dict")) if len(args) > 2 else {}
    if isinstance(body, (str, bytes)):
        message.body = encode(body) if isinstance(body, str) else body
    elif isinstance(body, (Mapping, list, tuple)):
        # Kong's JSON of a table loses false and null on this protocol: the text is made here
        message.body = encode(json.dumps(body, separators=(",", ":"), ensure_ascii=False))
        if not any(str(header).lower() == "content-type" for header in headers):
            headers["content-type"] = _JSON_TYPE
    elif body is not None:
        raise ArgumentError(f"{name}: argument 2 must be a dict, a list, a string or bytes, not {type(body).__name__}")
    _refuse_lossy(name, headers)
    if headers:
        fill_struct(message.headers, headers)


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
            getattr(message, field).CopyFrom(message_of(kind, value))


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
    "Struct": _fill_headers,
    "ExitArgs": _fill_exit,
    "ConsumerSpec": _fill_consumer_spec,
    "AuthenticateArgs": _fill_authenticate,
    "Target": _fill_target,
}
INPUTS = frozenset(_FILL)
"""The short names of the messages that can be arguments."""


def decode_arguments(method: Method, payload: bytes) -> list[Any]:
    """Read the argument message of a call, as Kong does; what is not set is None where the message can tell.

    :raises WireError: the bytes are no such message.
    """
    return _READ_ARGUMENTS[method.input](parse(method.input, payload))


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
