"""Gives the result of each PDK function the same shape over both protocols."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kong_pdk.settings import BODY_MEBIBYTES
from kong_pdk.wire.pdk_functions import Method
from kong_pdk.wire.pdk_values.protobuf_results import RawBody, decode_result
from kong_pdk.wire.pdk_values.protobuf_values import read_number

HEADERS_OF = {
    "kong.request.get_header": "kong.request.get_headers",
    "kong.response.get_header": "kong.response.get_headers",
    "kong.service.response.get_header": "kong.service.response.get_headers",
}
"""The functions that give one header, each with the function that gives all of them."""

# Functions for which an empty string, 0 or false of ProtoBuf:1 means Lua's nil, unless the message is a Value.
_NIL_WHEN_EMPTY = frozenset(
    {
        "kong.client.get_forwarded_port",
        "kong.client.get_protocol",
        "kong.request.get_header",
        "kong.request.get_http_version",
        "kong.response.get_header",
        "kong.service.response.get_header",
        "kong.service.response.get_status",
        "kong.service.set_upstream",
    }
)
_TEXT_TAGS = {"String": 0x0A, "Value": 0x1A}  # of the field with the text
_TWO_BYTES = 128  # a length from this on takes two bytes
# The lists of entities. An empty Lua table does not arrive as a list.
_LISTS_OF_ENTITIES = ("destinations", "hosts", "methods", "paths", "protocols", "snis", "sources", "tags")


def from_msgpack(function: str, value: Any) -> Any:
    """Give the value of a call from the data of a step.

    :param function: the dotted name.
    """
    return _SHAPES.get(function, _plain)(value)


def from_protobuf(method: Method, value: Any) -> tuple[Any, str | None]:
    """Give value and error of a call from the decoded result message."""
    if isinstance(value, RawBody):
        return _raw_body(value)
    function = method.function
    if not value and function in _NIL_WHEN_EMPTY and method.output != "Value":
        return None, None
    shape = _SHAPES.get(function)
    return (shape(value) if shape else value), None


def protobuf_decoder(method: Method) -> Callable[[bytes], tuple[Any, str | None]]:
    """Make the function that gives value and error of a call from the bytes of its result.

    :return: a function, which raises WireError for bytes that are not such a message.
    """
    if method.output == "Empty":
        return lambda _: (None, None)

    def decode_message(payload: bytes) -> tuple[Any, str | None]:
        return from_protobuf(method, decode_result(method, payload))

    tag = _TEXT_TAGS.get(method.output)
    if tag is None or _SHAPES.get(method.function, _text_or_none) is not _text_or_none:
        return decode_message

    def decode_text(payload: bytes) -> tuple[Any, str | None]:
        # A text that is not empty and shorter than 128 bytes: the tag, its length, the text.
        size = len(payload) - 2
        if 0 < size < _TWO_BYTES and payload[0] == tag and payload[1] == size:
            return payload[2:].decode("utf-8", "surrogateescape"), None
        return decode_message(payload)

    return decode_text


def query_argument(name: str, get_query: Callable[[], Any]) -> Any:
    """Give the value of ``kong.request.get_query_arg`` from all query arguments.

    Over ProtoBuf:1 the function itself raises in Kong for an argument without a value, which any client can send.
    """
    values = get_query().get(name)
    return values[0] if values else None


def _plain(value: Any) -> Any:
    """Convert a value of MsgPack:1 to its form over ProtoBuf:1: text for strings, integers where there is no fraction.

    An empty Lua table arrives as a list over MsgPack:1, and as a dict over ProtoBuf:1.
    """
    root = [value]
    todo: list[Any] = [root]
    while todo:  # no recursion: the client decides how deeply a body is nested
        container = todo.pop()
        for key, item in list(container.items() if isinstance(container, dict) else enumerate(container)):
            if item and isinstance(item, (dict, list)):
                todo.append(item)
            else:
                container[key] = _plain_leaf(item)
    return root[0]


def _plain_leaf(value: Any) -> Any:
    if isinstance(value, list):
        return {}
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return read_number(value) if isinstance(value, float) else value


def _multi_map(value: Any) -> dict[str, list[Any]]:
    """Give the values of each name as a list, even a single value; an argument without a value is True."""
    if not isinstance(value, dict):  # an empty Lua table arrives as an empty list
        return {}
    return {name: (items or [True]) if isinstance(items, list) else [items] for name, items in value.items()}


def _body(value: Any) -> Any:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _captures(value: Any) -> dict[str, dict[Any, str]]:
    """Give the groups of the route's regular expression, unnamed groups by number, from 1 as in Lua.

    A group that matched nothing is an empty text. The whole match, number 0, which only MsgPack:1 brings, is removed.
    """
    if not isinstance(value, dict):
        return {"unnamed": {}, "named": {}}
    unnamed, named = value.get("unnamed") or {}, value.get("named") or {}
    if isinstance(unnamed, list):
        unnamed = dict(enumerate(unnamed, start=1))
    numbered = {int(number): text or "" for number, text in unnamed.items()}
    return {
        "unnamed": {number: numbered[number] for number in sorted(numbered) if number},
        "named": {name: text or "" for name, text in named.items()},
    }


def _entity(value: Any) -> Any:
    """Give an entity whose empty lists are lists."""
    plain = _plain(value)
    if not isinstance(plain, Mapping):
        return plain
    return {name: [] if name in _LISTS_OF_ENTITIES and item == {} else item for name, item in plain.items()}


def _text_or_none(value: Any) -> Any:
    """Give None for an empty text: over both protocols these functions of Kong give the same for nil."""
    return _plain(value) or None


_SHAPES: Mapping[str, Callable[[Any], Any]] = {
    "kong.client.get_consumer": _entity,
    "kong.client.get_credential": _entity,
    "kong.client.load_consumer": _entity,
    "kong.nginx.get_tls1_version_str": _text_or_none,
    "kong.nginx.get_var": _text_or_none,
    "kong.nginx.set_ctx": _text_or_none,
    "kong.request.get_headers": _multi_map,
    "kong.request.get_query": _multi_map,
    "kong.request.get_raw_body": _body,
    "kong.request.get_uri_captures": _captures,
    "kong.response.get_headers": _multi_map,
    "kong.router.get_route": _entity,
    "kong.router.get_service": _entity,
    "kong.service.response.get_headers": _multi_map,
    "kong.service.response.get_raw_body": _body,
}


def _raw_body(value: RawBody) -> tuple[bytes | None, str | None]:
    if value.error is not None:
        return None, value.error
    if value.path is None:
        return value.content or b"", None
    most = BODY_MEBIBYTES.read(os.environ) * 1024 * 1024
    try:
        with Path(value.path).open("rb") as file:
            if os.fstat(file.fileno()).st_size > most:
                return None, f"the request body is larger than {BODY_MEBIBYTES.name} allows ({most >> 20} MiB)"
            return file.read(), None
    except OSError as error:
        return None, (
            f"the request body is in Kong's file {value.path}, which this server cannot read ({error.strerror}); "
            "run it as Kong's user and on Kong's file system"
        )
