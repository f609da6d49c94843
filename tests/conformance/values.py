"""The values of recorded PDK calls: from Kong's messages, as the recordings note them, and as an author gets them."""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from typing import Any

from conformance.frames import NOTHING, NoAnswer, PdkCall, Sent, Step
from conformance.recordings import Case, recorded_methods, schema
from kong_pdk.wire.pdk_functions import Method
from kong_pdk.wire.pdk_values.protobuf_arguments import decode_arguments
from kong_pdk.wire.pdk_values.protobuf_results import RawBody, decode_result, encode_result
from kong_pdk.wire.pdk_values.protobuf_values import read_value
from kong_pdk.wire.protobuf_codec import parse
from kong_pdk.wire.text import decode

_HEADER_LISTS = ("kong.request.get_headers", "kong.response.get_headers", "kong.service.response.get_headers")
_MULTI_MAPS = ("kong.request.get_query", *_HEADER_LISTS)
_BODIES = ("kong.request.get_raw_body", "kong.service.response.get_raw_body")
_CLIENT = ("kong.client.get_consumer", "kong.client.get_credential", "kong.client.load_consumer")
_ENTITIES = (*_CLIENT, "kong.router.get_route", "kong.router.get_service")
_LISTS_OF_ENTITIES = ("destinations", "hosts", "methods", "paths", "protocols", "snis", "sources", "tags")
# Only plugin servers have these functions; their messages do not tell nil from "".
_NONE_WHEN_EMPTY = ("kong.nginx.get_tls1_version_str", "kong.nginx.get_var", "kong.nginx.set_ctx")
# For an empty value in a message of the stock interface the recording server noted None, since an empty value also
# stands for Lua's nil. These functions never give nil.
_NEVER_NIL = {
    "kong.ip.is_trusted": False,
    "kong.request.get_path": "",
    "kong.request.get_path_with_query": "",
    "kong.request.get_raw_query": "",
}
_LARGEST_EXACT_NUMBER = 2**53


def author_value(case: Case, method: str, recorded: Any) -> Any:
    """The value that an author's handler is to get, for one of a case's ``results``.

    The recordings' shape depends on the protocol, the author's does not. Nothing here is taken from the plugin
    server: the two are to agree.

    :param method: its name on the wire.
    """
    function = method.replace("/", ".")
    value = _plain(recorded, function in _BODIES)
    if value is None and case.protocol == "ProtoBuf:1" and "/" not in method:
        value = _NEVER_NIL.get(function)
    if function in _MULTI_MAPS:  # an argument without a value is an empty table
        lists = {name: [True] if items == {} else items for name, items in (value or {}).items()}
        return {name: items if isinstance(items, list) else [items] for name, items in lists.items()}
    if function == "kong.request.get_uri_captures":
        value = value or {}
        unnamed = value.get("unnamed") or {}
        groups = dict(enumerate(unnamed, start=1)) if isinstance(unnamed, list) else unnamed
        # The whole match, 0, comes over MsgPack:1 alone.
        numbered = {int(number): text for number, text in groups.items() if int(number)}
        return {"unnamed": numbered, "named": value.get("named") or {}}
    if function in _BODIES:
        if not isinstance(value, dict):
            return value or b""
        return case.body if "body_filepath" in value else value.get("content", b"")
    if function in _ENTITIES and isinstance(value, dict):
        return {name: [] if name in _LISTS_OF_ENTITIES and item == {} else item for name, item in value.items()}
    return value or None if function in _NONE_WHEN_EMPTY else value


def _plain(value: Any, keep_bytes: bool, in_entity: bool = False, name: str = "") -> Any:
    """A value without the words that say of what kind it is, and as Lua has it: one empty table, one kind of numbers.

    JSON writes the 64-bit integers of messages as strings, and so did the recording.
    """
    if isinstance(value, dict) and "$message" in value:
        return _plain(value["fields"], keep_bytes, not value["$message"].startswith("google.protobuf."))
    if isinstance(value, dict) and "$bytes" in value:
        value = bytes.fromhex(value["$bytes"])
    if isinstance(value, dict):
        return {key: _plain(item, keep_bytes, in_entity, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, keep_bytes, in_entity, name) for item in value] or {}
    if isinstance(value, bytes) and not keep_bytes:
        return value.decode("utf-8", "surrogateescape")
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_EXACT_NUMBER
    return int(value) if is_whole or (in_entity and isinstance(value, str) and name in _long_integers()) else value


@cache
def _long_integers() -> frozenset[str]:
    messages = list(schema()["messages"].values())
    for message in messages:
        messages += message.get("nested", {}).values()
    return frozenset(field["name"] for message in messages for field in message["fields"] if field["type"] == "int64")


def typed(value: Any) -> Any:
    """A value with its types, its names in order: by this, values are compared."""
    if isinstance(value, dict):
        return "dict", sorted(((repr(key), typed(item)) for key, item in value.items()), key=itemgetter(0))
    return (type(value), [typed(item) for item in value]) if isinstance(value, (list, tuple)) else repr(value)


def arguments(method: Method, payload: bytes) -> list[Any]:
    """Give the arguments of Kong's function that a message contains."""
    given = list(decode_arguments(method, payload))
    while given and given[-1] is None:
        given.pop()
    # Kong's default, which messages without a way to leave it out carry.
    return given or ([100] if method.function in _MULTI_MAPS else [])


def arguments_of(call: PdkCall) -> list[Any]:
    """Give the arguments of a recorded call, over either protocol."""
    if isinstance(call.arguments, list):
        return call.arguments
    return arguments(recorded_methods()[call.method], call.arguments)


def meaning(call: PdkCall) -> Any:
    """Give the meaning of an answer of Kong. A Value tells Lua's nil from JSON's null, so both have a word here."""
    answer = call.answer.data if isinstance(call.answer, Step) else call.answer
    if isinstance(answer, NoAnswer) or isinstance(call.answer, Step):
        return answer
    method = recorded_methods()[call.method]
    return _value(parse("Value", answer)) if method.output == "Value" else decode_result(method, answer)


def _value(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind == "struct":
        return {decode(entry.key): _value(entry.value) for entry in message.struct.fields}
    if kind == "list":
        return [_value(item) for item in message.list.values]
    if kind is None:
        return "<null>"
    return f"<nil {message.null}>" if kind == "null" else read_value(message)


def as_recorded_result(call: PdkCall) -> Any:
    """Give an answer of Kong as the recording server would note it in ``results``."""
    if isinstance(call.answer, Step):
        return None if call.answer.data is NOTHING else call.answer.data
    method = recorded_methods()[call.method]
    value = decode_result(method, call.answer)
    if isinstance(value, RawBody):
        return {"body_filepath": value.path} if value.path else value.content
    return value or None if method.output in ("String", "Int", "Number", "Bool", "ByteString") else value


def exact_twin(event: Sent, call: PdkCall) -> PdkCall | None:
    """Find a call of the same event that asks for the same by an exact message, for an answer that is an empty message.

    The stock messages do not tell nil from an empty text.
    """
    if call.answer != b"" or recorded_methods()[call.method].output != "String":
        return None
    for other in event.pdk_calls:
        exact = other.method == call.method.replace(".", "/") and isinstance(other.answer, bytes)
        if exact and arguments_of(other) == arguments_of(call):
            return other
    return None


def convert(call: PdkCall, ours: Method) -> bytes:
    """Give Kong's answer in the message of another method for the same function. An empty message counts as nil."""
    recorded = recorded_methods()[call.method]
    if recorded.output == ours.output:
        return bytes(call.answer)
    if recorded.output == "String" and not call.answer:
        return encode_result(ours, None)
    plain = decode_result(recorded, call.answer)
    if ours.output == "RawBodyResult":
        plain = RawBody(content=plain if isinstance(plain, bytes) else str(plain).encode("utf-8", "surrogateescape"))
    if ours.output == "UriCapturesResult":
        plain = {"unnamed": list((plain or {}).get("unnamed") or []), "named": (plain or {}).get("named") or {}}
    return encode_result(ours, plain)
