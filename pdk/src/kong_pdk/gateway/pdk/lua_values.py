"""Converts PDK values like Lua and Kong's two encodings do."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, TypeVar

from kong_pdk.wire.messages import message_class
from kong_pdk.wire.msgpack_codec import step_method
from kong_pdk.wire.pdk_functions import Method
from kong_pdk.wire.pdk_values.protobuf_results import RawBody, encode_result
from kong_pdk.wire.text import decode, encode

# In these messages Kong's decoder turns null into the text NULL_VALUE, and false into nil.
_LOSSY_MESSAGES = frozenset({"KV", "ListValue", "Struct"})
_NULL_TEXT = "NULL_VALUE"
# Lua's numbers are doubles, which do not represent all larger integers.
_LARGEST_EXACT = 2**53


_Value = TypeVar("_Value", str, "str | bool")


def by_name(pairs: Iterable[tuple[str, _Value]]) -> dict[str, _Value | list[_Value]]:
    """A table of headers or arguments. A repeated name has a list of values."""
    table: dict[str, _Value | list[_Value]] = {}
    for name, value in pairs:
        present = table.get(name)
        if present is None:
            table[name] = value
        elif isinstance(present, list):
            present.append(value)
        else:
            table[name] = [present, value]
    return table


def tostring(value: object) -> str:
    """Lua's ``tostring`` of a PDK value."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.14g}"
    if isinstance(value, (dict, list)):
        return "table"
    return str(value)


def from_msgpack(args: list[Any]) -> list[Any]:
    """Arguments as Lua unpacks them: the list ends before the first nil."""
    plain: list[Any] = _lua_strings(args)
    return plain[: plain.index(None)] if None in plain else plain


def _lua_strings(value: Any) -> Any:
    """A value as in Lua, which has only one kind of string: binary ones become text that keeps its bytes."""
    if isinstance(value, (bytes, bytearray)):
        return decode(bytes(value))
    if isinstance(value, dict):
        pairs = ((_lua_strings(name), _lua_strings(item)) for name, item in value.items())
        table = {name: item for name, item in pairs if item is not None}
        return list(map(table.get, range(1, len(table) + 1))) if _is_sequence(table) else table
    if isinstance(value, (list, tuple)):
        return [_lua_strings(item) for item in value]
    if isinstance(value, int) and abs(value) > _LARGEST_EXACT:
        return int(float(value))
    return value


def _is_sequence(table: dict[Any, Any]) -> bool:
    """Whether a table is a list in Lua: its keys are the numbers from 1 on."""
    return bool(table) and all(type(name) is int and 0 < name <= len(table) for name in table)


def to_msgpack(method: str, value: Any) -> Any:
    """A result as Kong packs it for the step method of ``method``."""
    if step_method(method) == "plugin.StepMultiMap":
        return {name: _list_of(item) for name, item in value.items()}
    if method == "kong.request.get_uri_captures":
        unnamed = {index: item for index, item in enumerate(value["unnamed"]) if item is not None}
        return {"unnamed": unnamed or [], "named": value["named"] or []}
    return _packed(value)


def _list_of(item: Any) -> list[Any]:
    if item is True:
        return []
    return list(item) if isinstance(item, list) else [item]


def _packed(value: Any) -> Any:
    if isinstance(value, dict):
        # An empty Lua table looks like a list.
        return {name: _packed(item) for name, item in value.items()} or []
    if isinstance(value, list):
        return [_packed(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def from_protobuf(message: str, args: list[Any]) -> list[Any]:
    """Arguments of an input message as Kong's decoder passes them to Lua."""
    plain: list[Any] = _strings_with_nulls(args)
    if message == "ListValue":
        return _list_with_holes(plain)
    if message in _LOSSY_MESSAGES:
        return [_lossy(item) for item in plain]
    return plain


def _strings_with_nulls(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray)):
        return decode(bytes(value))
    if isinstance(value, dict):
        return {_strings_with_nulls(name): _strings_with_nulls(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strings_with_nulls(item) for item in value]
    return value


def _lossy(value: Any) -> Any:
    if value is None:
        return _NULL_TEXT
    if value is False:
        return None
    if isinstance(value, dict):
        pairs = ((name, _lossy(item)) for name, item in value.items())
        return {name: item for name, item in pairs if item is not None}
    return _list_with_holes(value) if isinstance(value, list) else value


def _list_with_holes(items: list[Any]) -> list[Any]:
    changed = [_lossy(item) for item in items]
    return changed[: changed.index(None)] if None in changed else changed


def to_protobuf(method: Method, value: Any) -> bytes:
    """The result message of Kong's encoder for a value. Raises TypeError and ValueError if Kong's encoder fails."""
    if method.output == "RawBodyResult":
        value = value if isinstance(value, RawBody) else RawBody(content=value)
    elif isinstance(value, RawBody):
        value = value.content  # in Lua, a body in a file is nil
    if method.function == "kong.request.get_uri_captures":
        value = _captures(value, method.output)
    if method.output != "Value" or value is None:
        return encode_result(method, value)
    message = message_class("Value")()
    _fill_value(message, value)
    return bytes(message.SerializeToString())


def _captures(value: dict[str, Any], message: str) -> dict[str, Any]:
    """Captures without group 0, since Kong's encoder begins at index 1. A group that matched nothing is nil there."""
    groups = value["unnamed"][1:]
    if message == "UriCapturesResult":
        groups = [group or "" for group in groups]
    else:
        groups = list(itertools.takewhile(lambda group: group is not None, groups))
    return {"unnamed": groups, "named": value["named"]}


def _fill_value(message: Any, value: Any) -> None:
    """Fill a ``Value``. Null in a table gets no kind, an empty table becomes a struct, a table with index 1 a list."""
    if isinstance(value, bool):
        message.bool = value
    elif isinstance(value, (int, float)):
        message.number = float(value)
    elif isinstance(value, (str, bytes)):
        message.string = encode(value) if isinstance(value, str) else value
    elif isinstance(value, (dict, list)):
        items = _items(value)
        (message.list if items else message.struct).SetInParent()
        for item in items:
            _fill_value(message.list.values.add(), item)
        for name, item in value.items() if isinstance(value, dict) and not items else ():
            if isinstance(name, str):
                _fill_value(message.struct.fields.add(key=encode(name)).value, item)
    elif value is not None:
        raise TypeError(f"a value of type {type(value).__name__} cannot be sent to a plugin server")


def _items(value: dict[Any, Any] | list[Any]) -> list[Any]:
    """The items of a table at the indexes from 1 up to the first missing one."""
    if isinstance(value, list):
        return value
    return [value[place] for place in itertools.takewhile(value.__contains__, itertools.count(1))]
