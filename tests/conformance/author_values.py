"""From a value as the recording server noted it to the value that an author's handler is to get.

The recordings' shape depends on the protocol, the author's does not. Nothing here is taken from the plugin server:
the two are to agree.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from conformance.recordings import Case, schema

_EXACT = 2**53


def author_value(case: Case, method: str, recorded: Any) -> Any:
    """The author's value for one of a case's ``results``.

    :param method: its name on the wire.
    """
    value = _plain(recorded)
    function = method.replace("/", ".")
    if value is None and case.protocol == "ProtoBuf:1" and "/" not in method:
        value = _NEVER_NIL.get(function)
    shape = _SHAPES.get(function)
    value = shape(case, value) if shape else value
    return value if function in _BODIES else _text(value)


def _plain(recorded: Any) -> Any:
    """The value itself, without the words that say what kind of value it is."""
    if isinstance(recorded, dict):
        if "$bytes" in recorded:
            return bytes.fromhex(recorded["$bytes"])
        if "$message" in recorded:
            return _of_message(recorded["$message"], recorded["fields"])
        return {name: _plain(item) for name, item in recorded.items()}
    if isinstance(recorded, list):
        return [_plain(item) for item in recorded] or {}  # Lua has one empty table
    if isinstance(recorded, float) and recorded.is_integer() and abs(recorded) <= _EXACT:
        return int(recorded)  # Lua has one kind of numbers
    return recorded


def _of_message(name: str, fields: Any) -> Any:
    if name == "kong_plugin_protocol.RawBodyResult":
        return {key: _plain(value) for key, value in fields.items()}
    value = _plain(fields)
    return value if name.startswith("google.protobuf.") else _entity(value)


def _entity(value: Any, name: str = "") -> Any:
    """The dict that a message stands for: JSON writes its 64-bit integers as strings, and so did the recording."""
    if isinstance(value, dict):
        return {key: _entity(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_entity(item, name) for item in value]
    return int(value) if isinstance(value, str) and name in _long_integers() else value


@cache
def _long_integers() -> frozenset[str]:
    def fields(messages: dict[str, Any]) -> list[str]:
        found = []
        for message in messages.values():
            found += [field["name"] for field in message["fields"] if field["type"] == "int64"]
            found += fields(message.get("nested", {}))
        return found

    return frozenset(fields(schema()["messages"]))


def _text(value: Any) -> Any:
    """Text for what the recording server could only note as bytes: those that are not UTF-8 are escaped."""
    if isinstance(value, dict):
        return {_text(name): _text(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_text(item) for item in value]
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _multi_map(case: Case, value: Any) -> Any:
    """A list of values for each name; an argument without a value is True."""
    if not value:  # an empty table of Lua is an empty list
        return {}
    return {
        name: items if isinstance(items, list) else [True] if items == {} else [items]  # an empty list is {} by now
        for name, items in value.items()
    }


def _captures(case: Case, value: Any) -> Any:
    """Unnamed groups by their numbers, which Lua counts from 1; the whole match, 0, comes over MsgPack:1 alone."""
    value = value or {}
    unnamed = value.get("unnamed") or {}
    if isinstance(unnamed, list):
        unnamed = dict(enumerate(unnamed, start=1))
    groups = {int(number): text for number, text in unnamed.items() if int(number)}
    return {"unnamed": groups, "named": value.get("named") or {}}


def _request_body(case: Case, value: Any) -> Any:
    """The bytes of the body, from wherever they come: Kong gives the path of a file for a large one."""
    if not isinstance(value, dict):
        return value or b""
    return case.body if "body_filepath" in value else value.get("content", b"")


def _entity_lists(case: Case, value: Any) -> Any:
    """Fields of entities that are lists are lists when they are empty, too."""
    if not isinstance(value, dict):
        return value
    return {name: [] if name in _LISTS and item == {} else item for name, item in value.items()}


def _none_when_empty(case: Case, value: Any) -> Any:
    """What only plugin servers have is a message without nil in Kong."""
    return value or None


def _bytes(case: Case, value: Any) -> Any:
    return value or b""


_LISTS = ("destinations", "hosts", "methods", "paths", "protocols", "snis", "sources", "tags")

_BODIES = ("kong.request.get_raw_body", "kong.service.response.get_raw_body")

_SHAPES: dict[str, Callable[[Case, Any], Any]] = {
    "kong.client.get_consumer": _entity_lists,
    "kong.client.get_credential": _entity_lists,
    "kong.client.load_consumer": _entity_lists,
    "kong.nginx.get_tls1_version_str": _none_when_empty,
    "kong.nginx.get_var": _none_when_empty,
    "kong.nginx.set_ctx": _none_when_empty,
    "kong.request.get_headers": _multi_map,
    "kong.request.get_query": _multi_map,
    "kong.request.get_raw_body": _request_body,
    "kong.request.get_uri_captures": _captures,
    "kong.response.get_headers": _multi_map,
    "kong.router.get_route": _entity_lists,
    "kong.router.get_service": _entity_lists,
    "kong.service.response.get_headers": _multi_map,
    "kong.service.response.get_raw_body": _bytes,
}

# The recording server noted None where a message of the stock interface had its empty value, which stands for Lua's
# nil as well. These functions never give nil.
_NEVER_NIL: dict[str, Any] = {
    "kong.ip.is_trusted": False,
    "kong.request.get_path": "",
    "kong.request.get_path_with_query": "",
    "kong.request.get_raw_query": "",
}
