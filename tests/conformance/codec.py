"""The messages of recorded calls, by the types that the recordings' ``rpc-schema.json`` gives their methods."""

from __future__ import annotations

from functools import cache
from typing import Any

from conformance.frames import Event, PdkCall
from conformance.recordings import schema
from kong_pdk.wire.pdk_functions import METHODS, Method
from kong_pdk.wire.pdk_values.protobuf_arguments import decode_arguments
from kong_pdk.wire.pdk_values.protobuf_results import RawBody, decode_result, encode_result
from kong_pdk.wire.pdk_values.protobuf_values import read_value
from kong_pdk.wire.protobuf_codec import parse
from kong_pdk.wire.text import decode

NO_METHOD = Method("", "", "")
"""Stands for the message types of MsgPack:1, which has none."""

_DEFAULTS: dict[str, list[Any]] = {
    "kong.request.get_query": [100],
    "kong.request.get_headers": [100],
    "kong.response.get_headers": [100],
    "kong.service.response.get_headers": [100],
}
"""What Kong takes where an argument is left out, and messages without a way to leave it out carry."""


@cache
def recorded_methods() -> dict[str, Method]:
    """The methods of the Kong that was recorded, by their names on the wire; ours where the schema lacks one."""
    rows = [*schema()["methods"], *extension()]
    named = [Method(row["wire_name"], _short(row["input"]), _short(row["output"]), False) for row in rows]
    return {**METHODS, **{method.name: method for method in named}}


def extension() -> list[dict[str, Any]]:
    """The methods that were appended to that Kong's interface file."""
    return next((rows for key, rows in schema().items() if key.startswith("extension")), [])


def _short(type_name: str) -> str:
    return type_name.rpartition(".")[2]


def arguments(method: Method, payload: bytes) -> list[Any]:
    """The arguments that a message brings Kong's function."""
    given = list(decode_arguments(method, payload))
    while given and given[-1] is None:
        given.pop()
    return given or list(_DEFAULTS.get(method.function, []))


def meaning(method: Method, payload: bytes) -> Any:
    """What an answer of Kong says. A Value tells Lua's nil from JSON's null, so both have a word here."""
    if method.output != "Value":
        return decode_result(method, payload)
    return _value(parse("Value", payload))


def _value(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind == "struct":
        return {decode(entry.key): _value(entry.value) for entry in message.struct.fields}
    if kind == "list":
        return [_value(item) for item in message.list.values]
    if kind is None:
        return "<null>"
    return f"<nil {message.null}>" if kind == "null" else read_value(message)


def exact_twin(event: Event, call: PdkCall) -> PdkCall | None:
    """A call of the same event that asked the same by an exact message, where an empty one is all there is.

    The stock messages do not tell nil from an empty text.
    """
    if call.answer != b"" or recorded_methods()[call.method].output != "String":
        return None
    for other in event.calls:
        exact = other.method == call.method.replace(".", "/") and isinstance(other.answer, bytes)
        if exact and _asked(other) == _asked(call):
            return other
    return None


def _asked(call: PdkCall) -> list[Any]:
    return arguments(recorded_methods()[call.method], call.arguments)


def convert(value: bytes, recorded: Method, ours: Method) -> bytes:
    """Kong's answer in the message of another method for the same function. An empty one is taken for nil."""
    if recorded.output == ours.output:
        return value
    if recorded.output == "String" and not value:
        return encode_result(ours, None)
    plain = decode_result(recorded, value)
    if ours.output == "RawBodyResult":
        plain = RawBody(content=plain if isinstance(plain, bytes) else str(plain).encode("utf-8", "surrogateescape"))
    if ours.output == "UriCapturesResult":
        plain = {"unnamed": list((plain or {}).get("unnamed") or []), "named": (plain or {}).get("named") or {}}
    return encode_result(ours, plain)
