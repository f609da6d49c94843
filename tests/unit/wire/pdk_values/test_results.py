"""Results of PDK calls: the quick decoder gives what the decoder of any message gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kong_pdk.wire.pdk_functions import METHODS, Method
from kong_pdk.wire.pdk_values.protobuf_results import decode_result, encode_result
from kong_pdk.wire.pdk_values.results import from_protobuf, protobuf_decoder
from kong_pdk.wire.wire_errors import WireError

EVERY = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
WITH_TEXT = [method for method in METHODS.values() if method.output in ("String", "Value")]
EACH = settings(max_examples=25, deadline=None, database=None, derandomize=True)
TEXTS = ["", "x", "é", "a" * 127, "a" * 128, "é" * 63, "é" * 64, "a" * 300, "\x00", "\x0a\x01x"]


def slow(method: Method, payload: bytes) -> tuple[Any, str | None] | type[WireError]:
    """The value and error, or WireError, in two steps."""
    try:
        return from_protobuf(method, decode_result(method, payload))
    except WireError:
        return WireError


def quick(method: Method, payload: bytes) -> tuple[Any, str | None] | type[WireError]:
    try:
        return protobuf_decoder(method)(payload)
    except WireError:
        return WireError


@EVERY
@EACH
@given(payload=st.binary(max_size=200))
def test_any_bytes_are_decoded_alike(method, payload):
    if method.output == "Empty":
        assert quick(method, payload) == (None, None)
    else:
        assert quick(method, payload) == slow(method, payload)


@pytest.mark.parametrize("method", WITH_TEXT, ids=lambda method: method.name)
@pytest.mark.parametrize("text", [*TEXTS, *(part.encode() + b"\xff" for part in TEXTS)], ids=repr)
def test_texts_are_decoded_alike(method, text):
    value = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    payload = encode_result(method, value)
    assert quick(method, payload) == slow(method, payload) != WireError


@pytest.mark.parametrize("method", WITH_TEXT, ids=lambda method: method.name)
@EACH
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=140), more=st.binary(max_size=8))
def test_a_text_with_bytes_behind_it_is_decoded_alike(method, text, more):
    payload = encode_result(method, text)
    for changed in (payload, payload + more, payload[:-1], payload[1:]):
        assert quick(method, changed) == slow(method, changed)


@pytest.mark.parametrize(
    "method", [method for method in METHODS.values() if method.output == "Value"], ids=lambda m: m.name
)
@pytest.mark.parametrize("value", [None, True, False, 0, 1.5, [], {}, ["a"], {"a": "b"}])
def test_other_values_are_decoded_alike(method, value):
    payload = encode_result(method, value)
    assert quick(method, payload) == slow(method, payload)
