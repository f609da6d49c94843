"""Values that are nested more deeply than the protobuf library reads."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from kong_pdk.wire.pdk_functions import METHODS
from kong_pdk.wire.pdk_values.conversion import MAX_DEPTH, converted
from kong_pdk.wire.pdk_values.protobuf_arguments import decode_arguments, encode_arguments
from kong_pdk.wire.pdk_values.protobuf_results import decode_result, encode_result
from kong_pdk.wire.pdk_values.protobuf_values import read_deep
from kong_pdk.wire.wire_errors import WireError

GET_BODY = METHODS["kong.request.get_body"]
DEPTH = 1000  # The depth of JSON that Kong reads.


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def span(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def nested(kind: str) -> bytes:
    value = b"\x11" + struct.pack("<d", 7)
    for _ in range(DEPTH):
        if kind == "list":
            value = span(6, span(1, value) + span(1, b""))
        else:
            value = span(5, span(1, span(2, value) + span(1, b"\xff")))
    return value


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_depth_is_no_limit(kind):
    found: Any = decode_result(GET_BODY, nested(kind))
    for _ in range(DEPTH):
        if kind == "list":
            assert len(found) == 2 and found[1] is None
            found = found[0]
        else:
            assert list(found) == ["\udcff"]
            found = found["\udcff"]
    assert found == 7 and isinstance(found, int)


@pytest.mark.parametrize(
    "value", [None, True, False, 7, 1.5, "", "é\udcff", [], {}, [1, [None, {"a": False}]], {"": 0, "b": {"c": [""]}}]
)
def test_it_reads_what_the_library_reads(value):
    payload = encode_result(GET_BODY, value)
    assert read_deep("Value", payload) == decode_result(GET_BODY, payload)
    assert repr(read_deep("Value", payload)) == repr(decode_result(GET_BODY, payload))


def test_a_struct_is_read_too():
    method = METHODS["kong.request.get_query"]
    payload = encode_result(method, {"a": ["1", True], "b": ""})
    assert read_deep("Struct", payload) == {"a": ["1", True], "b": ""}


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff",
        b"\x1a\x05abc",
        b"\x11\x00",
        b"\x0b",
        b"\x02\x00",
        b"\x80" * 11,
        span(6, b"\x0a\x02\x1a"),
        span(5, b"\x0a\x7f"),
    ],
)
def test_bytes_that_are_not_a_message_are_refused(payload):
    for read in (lambda: read_deep("Value", payload), lambda: decode_result(GET_BODY, payload)):
        with pytest.raises(WireError):
            read()


@pytest.mark.parametrize("function", ["kong.ctx.shared.set", "kong.log.err", "kong.response.set_headers"])
@pytest.mark.parametrize("levels", [1, MAX_DEPTH - 1])
def test_arguments_are_read_at_any_depth_that_is_sent(function, levels):
    value: Any = {"x": [True, "é\udcff", 1.5]}
    for _ in range(levels - 2):
        value = {"x": value}
    args = {"kong.ctx.shared.set": ["k", value], "kong.response.set_headers": [value]}.get(function, ["a", value])
    method = METHODS[function]
    assert decode_arguments(method, encode_arguments(method, converted(function, args))) == args
