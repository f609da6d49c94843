"""Convert a value as the recording server noted it to the value that an author's handler must get.

The shape of the recordings depends on the protocol, the author's value does not. No code of the plugin server is used
here: the two are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from conformance.recordings import Case, schema

_EXACT = 2**53


def author_value(case: Case, method: str, recorded: Any) -> Any:
    """Give the author's value for one of a case's ``results``.

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
    """Give the value itself, without the words that name its kind."""
    if isinstance(recorded, dict):
        if "$bytes" in recorded:
            return bytes.fromhex(recorded["$bytes"])
        if "$message" in recorded:
            return _of_message(recorded["$message"], recorded["fields"])
        return {name: _plain(item) for name, item in recorded.items()}
    if isinstance(recorded, list):
        return [_plain(item) for item in recorded] or {}  # Lua has only one kind of empty table.
    if isinstance(recorded, float) and recorded.is_integer() and abs(recorded) <= _EXACT:
        return int(recorded)  # Lua has only one kind of numbers.
    return recorded


def _of_message(name: str, fields: Any) -> Any:
    if name == "kong_plugin_protocol.RawBodyResult":
        return {key: _plain(value) for key, value in fields.items()}
    value = _plain(fields)
    return value if name.startswith("google.protobuf.") else _entity(value)


def _entity(value: Any, name: str = "") -> Any:
    """Give the dict for a message: JSON and the recording write its 64-bit integers as strings."""
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
    """Give the text of a value that the recording server noted as bytes: bytes that are not UTF-8 are escaped."""
    if isinstance(value, dict):
        return {_text(name): _text(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_text(item) for item in value]
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _multi_map(case: Case, value: Any) -> Any:
    """Give the list of values of each name; an argument without a value is True."""
    if not value:  # An empty table of Lua stands for an empty list.
        return {}
    return {
        name: items if isinstance(items, list) else [True] if items == {} else [items]  # An empty list has become {}.
        for name, items in value.items()
    }


def _captures(case: Case, value: Any) -> Any:
    """Give unnamed groups by their numbers, which Lua counts from 1; only MsgPack:1 has the whole match, 0."""
    value = value or {}
    unnamed = value.get("unnamed") or {}
    if isinstance(unnamed, list):
        unnamed = dict(enumerate(unnamed, start=1))
    groups = {int(number): text for number, text in unnamed.items() if int(number)}
    return {"unnamed": groups, "named": value.get("named") or {}}


def _request_body(case: Case, value: Any) -> Any:
    """Give the bytes of the body. Kong gives the path of a file for a large one."""
    if not isinstance(value, dict):
        return value or b""
    return case.body if "body_filepath" in value else value.get("content", b"")


def _entity_lists(case: Case, value: Any) -> Any:
    """Make the list fields of entities lists when they are empty, too."""
    if not isinstance(value, dict):
        return value
    return {name: [] if name in _LISTS and item == {} else item for name, item in value.items()}


def _none_when_empty(case: Case, value: Any) -> Any:
    """Functions that only plugin servers have give a message, which cannot say nil."""
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

# For an empty value in a message of the stock interface the recording server noted None, since an empty value also
# stands for Lua's nil. These functions never give nil.
_NEVER_NIL: dict[str, Any] = {
    "kong.ip.is_trusted": False,
    "kong.request.get_path": "",
    "kong.request.get_path_with_query": "",
    "kong.request.get_raw_query": "",
}
