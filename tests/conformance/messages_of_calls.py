"""The messages of recorded PDK calls, by the types that the recordings' schema gives to their methods."""

from __future__ import annotations

from typing import Any

from conformance.frames import NOTHING, PdkCall, Sent, Step
from conformance.recordings import recorded_methods
from kong_pdk.wire.pdk_functions import Method
from kong_pdk.wire.pdk_values.protobuf_arguments import decode_arguments
from kong_pdk.wire.pdk_values.protobuf_results import RawBody, decode_result, encode_result
from kong_pdk.wire.pdk_values.protobuf_values import read_value
from kong_pdk.wire.protobuf_codec import parse
from kong_pdk.wire.text import decode

_DEFAULTS: dict[str, list[Any]] = {
    "kong.request.get_query": [100],
    "kong.request.get_headers": [100],
    "kong.response.get_headers": [100],
    "kong.service.response.get_headers": [100],
}
"""What Kong takes where an argument is left out, and messages without a way to leave it out carry."""


def arguments(method: Method, payload: bytes) -> list[Any]:
    """Give the arguments of Kong's function that a message contains."""
    values = list(decode_arguments(method, payload))
    while values and values[-1] is None:
        values.pop()
    return values or list(_DEFAULTS.get(method.function, []))


def arguments_of(call: PdkCall) -> list[Any]:
    """Give the arguments of a recorded call, over either protocol."""
    if isinstance(call.arguments, list):
        return call.arguments
    return arguments(recorded_methods()[call.method], call.arguments)


def meaning(call: PdkCall) -> Any:
    """Give the meaning of an answer of Kong. A Value tells Lua's nil from JSON's null, so both have a word here."""
    if isinstance(call.answer, Step):
        return repr(NOTHING) if call.answer.data is NOTHING else call.answer.data
    if not isinstance(call.answer, bytes):
        return repr(call.answer)
    method = recorded_methods()[call.method]
    if method.output != "Value":
        return decode_result(method, call.answer)
    return _value(parse("Value", call.answer))


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


def convert(call: PdkCall, our_method: Method) -> bytes:
    """Give Kong's answer in the message of another method for the same function. An empty message counts as nil."""
    recorded = recorded_methods()[call.method]
    if recorded.output == our_method.output:
        return bytes(call.answer)
    if recorded.output == "String" and not call.answer:
        return encode_result(our_method, None)
    plain = decode_result(recorded, call.answer)
    if our_method.output == "RawBodyResult":
        plain = RawBody(content=plain if isinstance(plain, bytes) else str(plain).encode("utf-8", "surrogateescape"))
    if our_method.output == "UriCapturesResult":
        plain = {"unnamed": list((plain or {}).get("unnamed") or []), "named": (plain or {}).get("named") or {}}
    return encode_result(our_method, plain)
