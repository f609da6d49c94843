"""Arguments of PDK calls, made ready for both protocols: nothing that an author gives is lost without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kong_pdk.error_page import message_of
from kong_pdk.wire import json_text
from kong_pdk.wire.arguments import LOG_LINES, as_form
from kong_pdk.wire.errors import ArgumentError, too_deep

EXITS = frozenset({"kong.response.exit", "kong.response.error"})
"""Calls that Kong never answers: the request ends with them."""

_MOST_FOR_EXIT = 3
_PLAIN = (str, bytes, int, float)
_INTEGERS = range(-(2**63), 2**64)  # those of MessagePack
# What Kong itself takes for an argument that is nil, by function and position.
_DEFAULTS: Mapping[tuple[str, int], str | int] = {
    ("kong.node.get_memory_stats", 0): "b",
    ("kong.request.get_body", 1): 100,
    ("kong.response.exit", 1): "",
}


def without_holes(function: str, args: Sequence[object]) -> list[object]:
    """Fill what is None in front of an argument, where that can be filled.

    In a line of the log it is ``nil``, and what cannot be sent is the text that ``str`` makes of it.

    :raises ArgumentError: more arguments than ``exit`` and ``error`` have, or what has no end.
    """
    given = list(args)
    if function in LOG_LINES:
        try:
            return [_printed(value) for value in given]
        except RecursionError as error:
            raise too_deep(function) from error
    last = _last(given)
    if function in EXITS:
        if last >= _MOST_FOR_EXIT:
            raise ArgumentError(f"{function} takes at most {_MOST_FOR_EXIT} arguments, not {last + 1}")
        del given[last + 1 :]
    for position in range(last):
        if given[position] is None:
            given[position] = _default(function, position, given)
    return given


def _default(function: str, position: int, given: Sequence[object]) -> object:
    if (function, position) == ("kong.response.error", 1) and isinstance(given[0], int):
        return message_of(given[0])
    return _DEFAULTS.get((function, position))


def for_msgpack(function: str, args: Sequence[object]) -> list[Any]:
    """Make arguments ready for MsgPack:1, over which Lua loses what stands behind a nil.

    :raises ArgumentError: there is a None that cannot be left out.
    """
    hole = next((position for position in range(_last(args)) if args[position] is None), None)
    if hole is not None:
        raise ArgumentError(
            f"{function}: argument {hole + 1} is None, and over MsgPack:1 Kong loses what stands "
            "behind it; give a value, or use ProtoBuf:1 (KONG_PYTHON_PROTOCOL=protobuf)"
        )
    ready = list(args)
    if function == "kong.service.request.set_query" and ready and isinstance(ready[0], Mapping):
        ready[0] = as_form(ready[0])
    elif function == "kong.response.exit" and len(ready) > 1:
        ready[1:] = _with_json(function, ready[1:])
    return [_for_lua(function, value) for value in ready]


def _with_json(function: str, rest: list[Any]) -> list[Any]:
    """Give body and headers of an answer, a body that Lua would change as JSON."""
    body, headers = rest[0], rest[1] if len(rest) > 1 else {}
    is_table = isinstance(body, (Mapping, list, tuple))
    if not is_table or not isinstance(headers, Mapping) or not json_text.needed(function, body):
        return rest
    return [json_text.text(function, body), json_text.with_type(headers)]


def _last(args: Sequence[object]) -> int:
    """Give the position of the last argument that is not None; -1 where all are."""
    last = len(args) - 1
    while last >= 0 and args[last] is None:
        last -= 1
    return last


def _printed(value: Any) -> Any:
    """Write out what cannot be sent, an exception for example, as ``print`` would."""
    if isinstance(value, Mapping):
        return {name: _printed(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printed(item) for item in value]
    if isinstance(value, int) and value not in _INTEGERS:
        return str(value)
    return "nil" if value is None else value if isinstance(value, _PLAIN) else str(value)


def _for_lua(function: str, value: Any) -> Any:
    """Give a value as ProtoBuf:1 would carry it: names are text, integers are doubles where they are large."""
    if isinstance(value, Mapping):
        return {
            name if isinstance(name, (str, bytes)) else str(name): _for_lua(function, item)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        if any(item is None for item in value):
            raise ArgumentError(f"{function}: a list holds None, at which Lua ends it; leave it out or give a value")
        return [_for_lua(function, item) for item in value]
    return float(value) if isinstance(value, int) and value not in _INTEGERS else value
