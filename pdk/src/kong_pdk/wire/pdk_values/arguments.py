"""Prepares the arguments of PDK calls for both protocols, so that no value is lost without an error.

:func:`set_body` makes the calls that set a body, since Kong would change some values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from kong_pdk.error_page import message_of
from kong_pdk.wire.pdk_values import json_text
from kong_pdk.wire.pdk_values.conversion import converted, inspect_argument, log_argument
from kong_pdk.wire.pdk_values.protobuf_arguments import LOG_LINES, as_form
from kong_pdk.wire.wire_errors import ArgumentError

EXITS = frozenset({"kong.response.exit", "kong.response.error"})
"""Calls that Kong never answers: the request ends with them."""

SET_BODY = "kong.service.request.set_body"
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_NO_TYPE = (
    "the request has no Content-Type, so Kong has not set the body; give the type as second argument, "
    f'"{_JSON}" for example'
)
_Result: TypeAlias = tuple[Any, str | None]
_Call: TypeAlias = Callable[[str, Sequence[object]], _Result]
_MOST_FOR_EXIT = 3
_INSPECT = "kong.log.inspect"
_NEED_A_VALUE = frozenset(
    f"kong.{part}.{name}" for part in ("response", "service.request") for name in ("set_header", "add_header")
)
# Kong's own defaults for arguments that are nil, by function and position.
_DEFAULTS: Mapping[tuple[str, int], str | int] = {
    ("kong.node.get_memory_stats", 0): "b",
    ("kong.request.get_body", 1): 100,
    ("kong.response.exit", 1): "",
}


def prepare(function: str, args: Sequence[object]) -> list[Any]:
    """Convert arguments to values that both protocols carry, and replace None before another argument by its default.

    May run code of the author's objects, so the caller must hold no lock.

    :param function: the dotted name.
    :raises ArgumentError: an argument cannot be sent, or ``exit`` or ``error`` gets too many arguments.
    :raises Exception: from the author's objects.
    """
    if function == _INSPECT:
        return [inspect_argument(value) for value in args]
    if function in LOG_LINES:
        return [log_argument(value) for value in args]
    prepared = converted(function, args)
    last = _last(prepared)
    if function in _NEED_A_VALUE and last < 1 < len(prepared):
        clear = function.replace("set_header", "clear_header").replace("add_header", "clear_header")
        raise ArgumentError(f"{function}: argument 2, the value, is None; give text, or remove the header by {clear}")
    if function in EXITS:
        if last >= _MOST_FOR_EXIT:
            raise ArgumentError(f"{function} takes at most {_MOST_FOR_EXIT} arguments, not {last + 1}")
        del prepared[last + 1 :]
    for position in range(last):
        if prepared[position] is None:
            prepared[position] = _default(function, position, prepared)
    return prepared


def _default(function: str, position: int, prepared: Sequence[object]) -> object:
    if (function, position) == ("kong.response.error", 1) and isinstance(prepared[0], int):
        return message_of(prepared[0])
    return _DEFAULTS.get((function, position))


def for_msgpack(function: str, args: Sequence[object]) -> list[Any]:
    """Prepare arguments for MsgPack:1, over which Lua loses the arguments behind a nil.

    :param function: the dotted name.
    :raises ArgumentError: an argument before another one is None, or a list holds None.
    """
    hole = next((position for position in range(_last(args)) if args[position] is None), None)
    if hole is not None:
        raise ArgumentError(
            f"{function}: argument {hole + 1} is None, and over MsgPack:1 Kong loses the arguments "
            "behind it; give a value, or use ProtoBuf:1 (KONG_PYTHON_PROTOCOL=protobuf)"
        )
    ready = list(args)
    if function == "kong.service.request.set_query" and ready and isinstance(ready[0], Mapping):
        ready[0] = as_form(ready[0])
    elif function == "kong.response.exit" and len(ready) > 1:
        ready[1:] = _with_json(function, ready[1:])
    return [_without_holes(function, value) for value in ready]


def _with_json(function: str, rest: list[Any]) -> list[Any]:
    """Give the body and headers of an answer; the body becomes JSON text where Lua would change it."""
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


def _without_holes(function: str, value: Any) -> Any:
    """Copy a value.

    :raises ArgumentError: a list in it holds None.
    """
    if isinstance(value, Mapping):
        return {name: _without_holes(function, item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        if any(item is None for item in value):
            raise ArgumentError(f"{function}: a list holds None, at which Lua ends it; leave it out or give a value")
        return [_without_holes(function, item) for item in value]
    return value


def set_body(call: _Call, args: Sequence[Any]) -> _Result:
    """Call ``kong.service.request.set_body``; JSON is encoded here where Kong would change the value.

    :param call: makes a PDK call.
    :param args: the arguments of the function.
    :raises ArgumentError: the body cannot be encoded.
    """
    if not args or not isinstance(args[0], (Mapping, list, tuple)):
        kind = type(args[0]).__name__ if args else "left out"
        raise ArgumentError(
            f"{SET_BODY}: argument 1 must be a dict or a list, not {kind}; text and bytes are set by "
            "kong.service.request.set_raw_body"
        )
    value, error = _set(call, args)
    return (None, _NO_TYPE) if value is None and error is None else (value, error)


def _set(call: _Call, args: Sequence[Any]) -> _Result:
    """Set the body; return None and no error where neither the plugin nor the request gives a Content-Type."""
    body = args[0]
    if not json_text.needed(SET_BODY, body):
        return call(SET_BODY, args)
    mimetype = args[1] if len(args) > 1 else call("kong.request.get_header", ["content-type"])[0]
    if mimetype is None:
        return None, None
    kind = str(mimetype).partition(";")[0]
    if kind == _JSON:
        call("kong.service.request.set_raw_body", [json_text.text(SET_BODY, body)])
        call("kong.service.request.set_header", ["content-type", kind])
        return True, None
    if kind == _FORM and isinstance(body, Mapping):
        return call(SET_BODY, [as_form(body), mimetype])
    return call(SET_BODY, args)
