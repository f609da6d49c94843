"""Values change in Kong's Lua as the recordings show."""

from __future__ import annotations

from typing import Any

import pytest
from kong_pdk.gateway.pdk.lua_values import from_msgpack, from_protobuf, to_msgpack, to_protobuf, tostring
from kong_pdk.wire.interface import STOCK
from kong_pdk.wire.pdk_values.protobuf_results import decode_result


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "nil"), (True, "true"), (5, "5"), (5.0, "5"), (1.5, "1.5"), (0.1 + 0.2, "0.3"), ("a", "a"), ({}, "table")],
)
def test_tostring(value: object, text: str) -> None:
    assert tostring(value) == text


@pytest.mark.parametrize(
    ("args", "seen"),
    [
        ([403, None, {"a": "b"}], [403]),
        ([None, "x"], []),
        ([b"\xff"], ["\udcff"]),
        ([{"a": None, "b": b"c"}], [{"b": "c"}]),
        ([False], [False]),
        ([{1: "a", 2: {2: "b"}}], [["a", {2: "b"}]]),
        ([2**53 + 1, 2**53, 5], [2**53, 2**53, 5]),
    ],
)
def test_nil_ends_the_arguments_over_msgpack(args: list[Any], seen: list[Any]) -> None:
    assert from_msgpack(args) == seen


@pytest.mark.parametrize(
    ("message", "args", "seen"),
    [
        ("KV", ["k", None], ["k", "NULL_VALUE"]),
        ("KV", ["k", False], ["k", None]),
        ("KV", ["k", {"a": False, "b": None, "c": [1, False, 2]}], ["k", {"b": "NULL_VALUE", "c": [1]}]),
        ("ListValue", ["a", None, True, False, "lost"], ["a", "NULL_VALUE", True]),
        ("Struct", [{"a": False, "b": "c"}], [{"b": "c"}]),
        ("Bool", [False], [False]),
        ("ExitArgs", [200, b"\x00\xff", None], [200, "\x00\udcff", None]),
    ],
)
def test_false_and_null_over_protobuf(message: str, args: list[Any], seen: list[Any]) -> None:
    assert from_protobuf(message, args) == seen


def test_multimaps_have_lists_over_msgpack() -> None:
    value = {"flag": True, "one": "1", "more": [True, "2"]}
    packed = to_msgpack("kong.request.get_query", value)
    assert packed == {"flag": [], "one": ["1"], "more": [True, "2"]}
    assert to_msgpack("kong.request.get_headers", {}) == {}


def test_empty_table_is_a_list_over_msgpack() -> None:
    assert to_msgpack("kong.ctx.shared.get", {"a": {}}) == {"a": []}


def test_captures_count_from_zero_over_msgpack_and_from_one_over_protobuf() -> None:
    value = {"unnamed": ["/a/1", "1"], "named": {"id": "1"}}
    packed = to_msgpack("kong.request.get_uri_captures", value)
    assert packed == {"unnamed": {0: "/a/1", 1: "1"}, "named": {"id": "1"}}
    method = STOCK.method("kong.request.get_uri_captures")
    assert decode_result(method, to_protobuf(method, value)) == {"unnamed": ["1"], "named": {"id": "1"}}
