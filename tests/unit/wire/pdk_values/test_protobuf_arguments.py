"""Arguments of ProtoBuf:1: short texts have the same bytes with and without the protobuf library."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kong_pdk.wire.pdk_functions import METHODS, Method
from kong_pdk.wire.pdk_values.arguments import EXITS, prepare
from kong_pdk.wire.pdk_values.protobuf_arguments import encode_arguments, encode_texts
from kong_pdk.wire.wire_errors import ArgumentError

EVERY = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
EACH = settings(max_examples=50, deadline=None, database=None, derandomize=True)
ascii_texts = st.text(st.characters(max_codepoint=127), max_size=110)
NO_TEXT = [None, True, 5, 0.5, b"x", ["x"], {"x": "y"}]


class Text(str):
    """A text of the author's own class, whose methods may do anything."""

    __slots__ = ()


def in_full(method: Method, args: list[Any]) -> bytes | type[ArgumentError]:
    """The bytes that the protobuf library makes, or ArgumentError."""
    try:
        return encode_arguments(method, prepare(method.function, args))
    except ArgumentError:
        return ArgumentError


@EVERY
@EACH
@given(args=st.lists(ascii_texts, max_size=4))
def test_texts_have_the_same_bytes(method, args):
    if method.function in EXITS:  # their arguments depend on each other, so their plans do not ask for this
        return
    made = encode_texts(method, args)
    if made is not None:
        assert made == in_full(method, args)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("kong.request.get_method", []),
        ("kong.request.get_header", ["host"]),
        ("kong.request.get_header", [""]),
        ("kong.request.get_header", ["x" * 100]),
        ("kong.response.set_header", ["x-a", "b"]),
        ("kong.response.set_header", ["x-a", ""]),
        ("kong.response.set_header", ["", ""]),
        ("kong.response.set_header", ["x" * 100, "y" * 100]),
        ("kong.service.request.set_raw_body", ["text"]),
        ("kong.log.err", ["a", "", "b" * 100]),
        ("kong.log.err", []),
    ],
)
def test_the_usual_calls_are_encoded_without_the_library(name, args):
    made = encode_texts(METHODS[name], args)
    assert made is not None
    assert made == in_full(METHODS[name], args)


@EVERY
@pytest.mark.parametrize("value", [*NO_TEXT, "é", "\udcff", "x" * 101, Text("x")], ids=repr)
def test_other_arguments_are_left_to_the_library(method, value):
    assert encode_texts(method, [value]) is None
    assert encode_texts(method, ["x", value]) is None


@EVERY
@pytest.mark.parametrize("count", range(4))
def test_a_wrong_number_of_texts_is_left_to_the_library(method, count):
    args = ["x"] * count
    if method.function not in EXITS and in_full(method, args) is ArgumentError:
        assert encode_texts(method, args) is None
