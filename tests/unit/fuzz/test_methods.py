"""Every PDK method of ProtoBuf:1: its arguments and results, with any values from an author, a client or a peer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf import struct_pb2, wrappers_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from kong_pdk.wire.pdk_functions import METHODS
from kong_pdk.wire.pdk_values.protobuf_arguments import decode_arguments, encode_arguments
from kong_pdk.wire.pdk_values.protobuf_results import RawBody, decode_result, encode_result
from kong_pdk.wire.text import encode
from kong_pdk.wire.wire_errors import ArgumentError, WireError
from unit.fuzz.strategies import damaged, doubles, int32, int64, json_values, msgpack_values, raw_text, unicode_text

INPUTS = "calls and answers of the PDK"

EACH = settings(max_examples=max(10, settings.default.max_examples // 8))
"""There are many methods of few kinds."""

EVERY = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def without_losses(text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Values that Kong's reader does not change; it drops false and null."""
    leaves = st.one_of(st.just(True), st.integers(-(2**53), 2**53), doubles, text)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=4)),
        max_leaves=10,
    )


consumers = st.fixed_dictionaries(
    {"id": raw_text.filter(bool)},
    optional={
        "created_at": int64.filter(bool),
        "username": raw_text.filter(bool),
        "tags": st.lists(raw_text, min_size=1),
    },
)
credentials = st.fixed_dictionaries({"id": raw_text.filter(bool)}, optional={"consumer_id": raw_text.filter(bool)})
plain = without_losses(raw_text)

FITTING: dict[str, st.SearchStrategy[list[Any]]] = {
    "Empty": st.just([]),
    "String": st.tuples(raw_text).map(list),
    "ByteString": st.tuples(st.binary()).map(list),
    "Int": st.tuples(int32).map(list),
    "Bool": st.tuples(st.booleans()).map(list),
    "KV": st.tuples(raw_text, plain).map(list),
    "ListValue": st.lists(plain, max_size=4),
    "Struct": st.tuples(st.dictionaries(raw_text, plain, max_size=4)).map(list),
    "ExitArgs": st.tuples(int32, st.binary(), st.dictionaries(raw_text, plain, min_size=1, max_size=4)).map(list),
    "ConsumerSpec": st.tuples(raw_text, st.booleans()).map(list),
    "AuthenticateArgs": st.tuples(consumers, credentials).map(list),
    "Target": st.tuples(raw_text, int32).map(list),
}

# Kong leaves out an argument without a value, and so does our code.
_argument = st.one_of(st.just(True), int32, raw_text)
queries = st.tuples(
    st.dictionaries(raw_text, st.one_of(_argument, st.lists(_argument, min_size=1, max_size=3)), max_size=4)
).map(list)

_captures = st.fixed_dictionaries(
    {"unnamed": st.lists(raw_text, max_size=4), "named": st.dictionaries(raw_text, raw_text, max_size=4)}
)
RESULTS: dict[str, st.SearchStrategy[Any]] = {
    "Empty": st.none(),
    "String": raw_text,
    "ByteString": st.binary(),
    "Int": int32,
    "Number": doubles,
    "Bool": st.booleans(),
    "Value": json_values(raw_text),
    "Struct": st.dictionaries(raw_text, json_values(raw_text), max_size=4),
    "RawBodyResult": st.one_of(
        st.builds(RawBody, content=st.binary()),
        st.builds(RawBody, path=raw_text),
        st.builds(RawBody, error=raw_text),
    ),
    "UriCapturesResult": _captures,
    "Consumer": consumers,
    "AuthenticatedCredential": credentials,
    "Service": st.fixed_dictionaries({"id": raw_text.filter(bool), "port": int32.filter(bool)}),
    "Route": st.fixed_dictionaries(
        {"id": raw_text.filter(bool), "service": credentials.map(lambda key: {"id": key["id"]})}
    ),
    "MemoryStats": st.fixed_dictionaries(
        {"workers_lua_vms": st.lists(st.fixed_dictionaries({"pid": int64.filter(bool)}), min_size=1, max_size=3)}
    ),
}


def test_every_kind_of_message_is_tried():
    assert {method.input for method in METHODS.values()} <= set(FITTING)
    assert {method.output for method in METHODS.values()} <= set(RESULTS)


@EVERY
@EACH
@given(data=st.data())
def test_arguments_survive_the_wire(method, data):
    args = data.draw(queries if method.function == "kong.service.request.set_query" else FITTING[method.input])
    assert decode_arguments(method, encode_arguments(method, args)) == args


@EVERY
@EACH
@given(args=st.lists(st.one_of(msgpack_values(raw_text), st.just(object()), st.integers(), st.floats()), max_size=4))
def test_any_arguments_are_sent_or_refused_by_name(method, args):
    try:
        payload = encode_arguments(method, args)
    except ArgumentError as error:
        assert method.function in str(error)
        return
    decode_arguments(method, payload)


@EVERY
@EACH
@given(data=st.data())
def test_results_survive_the_wire(method, data):
    value = data.draw(RESULTS[method.output])
    assert decode_result(method, encode_result(method, value)) == value


@EVERY
@EACH
@given(garbage=st.binary(max_size=200))
def test_any_bytes_are_arguments_and_results_or_refused(method, garbage):
    with suppress(WireError):
        decode_arguments(method, garbage)
    with suppress(WireError):
        decode_result(method, garbage)


@EVERY
@EACH
@given(data=st.data())
def test_a_damaged_result_is_one_or_refused(method, data):
    whole = encode_result(method, data.draw(RESULTS[method.output]))
    with suppress(WireError):
        decode_result(method, data.draw(damaged(whole)))


def nested(deep: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(deep):
        value = [value]
    return value


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("make", [lambda: nested(5000), endless, lambda: {"a": endless()}])
@pytest.mark.parametrize("name", ["kong.ctx.shared.set", "kong.log.err", "kong.vault.update", "kong.response.exit"])
def test_endless_nesting_is_refused_by_name(name, make):
    args = {"kong.ctx.shared.set": ["k", make()], "kong.response.exit": [200, "", {"x": make()}]}.get(name, [make()])
    with pytest.raises(ArgumentError, match=name):
        encode_arguments(METHODS[name], args)


# The library's own messages have the same fields: it is a second reader and writer.
ANOTHER: dict[str, Callable[[Any], Any]] = {
    "String": lambda value: wrappers_pb2.BytesValue(value=encode(value)),
    "ByteString": lambda value: wrappers_pb2.BytesValue(value=value),
    "Int": lambda value: wrappers_pb2.Int32Value(value=value),
    "Number": lambda value: wrappers_pb2.DoubleValue(value=value),
    "Bool": lambda value: wrappers_pb2.BoolValue(value=value),
}


@pytest.mark.parametrize(
    "method", [method for method in METHODS.values() if method.output in ANOTHER], ids=lambda method: method.name
)
@EACH
@given(data=st.data())
def test_protobuf_itself_writes_and_reads_the_same_results(method, data):
    value = data.draw(RESULTS[method.output])
    by_another = ANOTHER[method.output](value)
    assert encode_result(method, value) == by_another.SerializeToString()
    assert decode_result(method, by_another.SerializeToString()) == value


@given(st.dictionaries(unicode_text, st.lists(unicode_text, max_size=3), max_size=4))
def test_protobuf_itself_writes_and_reads_the_same_headers(headers):
    by_another = struct_pb2.Struct()
    by_another.update(headers)
    method = METHODS["kong.request.get_headers"]
    assert decode_result(method, by_another.SerializeToString()) == headers
    assert struct_pb2.Struct.FromString(encode_result(method, headers)) == by_another
