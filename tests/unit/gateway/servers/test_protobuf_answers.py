"""The gateway answers every method of its interface file with Kong's bytes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from kong_pdk.gateway.exchange import Body, Exit, Refused
from kong_pdk.gateway.pdk.lua_values import to_protobuf
from kong_pdk.gateway.servers.failures import PluginFailed
from kong_pdk.gateway.servers.protobuf_client import answer
from kong_pdk.wire.interface import EXTENDED, Interface, read
from kong_pdk.wire.pdk_functions import Method
from kong_pdk.wire.pdk_values.protobuf_arguments import encode_arguments
from kong_pdk.wire.pdk_values.protobuf_results import decode_result
from unit.gateway.pdk.exchanges import Scene, scene

HEADER = Method("kong/request/get_header", "ListValue", "Value")
CAPTURES = Method("kong/request/get_uri_captures", "ListValue", "Value")
SHARED = Method("kong.ctx.shared.get", "String", "Value")


def ask(
    method: Method,
    *args: Any,
    given: Scene | None = None,
    phase: str = "access",
    interface: Interface | None = None,
) -> bytes:
    """The frame that answers a call."""
    event = (given or scene()).event(phase, "ProtoBuf:1")
    payload = encode_arguments(method, args)
    return asyncio.run(answer(event, interface or Interface([method]), method.name, payload))


def test_nil_and_the_empty_text_have_different_bytes() -> None:
    given = scene([(b"x-h", b"")])
    assert ask(HEADER, "x-h", given=given) == bytes.fromhex("1a00")
    assert ask(HEADER, "x-missing", given=given) == bytes.fromhex("0801")


def test_header_that_is_not_utf_8_arrives_intact() -> None:
    assert ask(HEADER, "x-h", given=scene([(b"x-h", b"caf\xe9")])) == bytes.fromhex("1a04636166e9")


def test_argument_without_a_value_is_true() -> None:
    method = Method("kong/request/get_query_arg", "ListValue", "Value")
    assert decode_result(method, ask(method, "flag", given=scene(raw_query=b"flag"))) is True


def test_false_comes_back_right() -> None:
    method = EXTENDED.method("kong.vault.is_reference")
    assert ask(method, "no reference") == bytes.fromhex("2000")


def test_captures_are_a_list_from_the_first_group() -> None:
    given = scene()
    given.exchange.matched_path = "/a/42/word"
    given.exchange.unnamed_captures = ["42", "word"]
    given.exchange.named_captures = {"id": "42"}
    assert ask(CAPTURES, given=given) == bytes.fromhex(
        "2a360a1b0a07756e6e616d65641210320e0a041a0234320a061a04776f72640a170a056e616d6564120e2a0c0a0a0a02696412041a023432"
    )


def test_a_list_ends_before_its_first_hole_and_an_empty_one_is_a_struct() -> None:
    given = scene()
    given.exchange.unnamed_captures = ["42", None, "word"]  # type: ignore[list-item]
    assert decode_result(CAPTURES, ask(CAPTURES, given=given))["unnamed"] == ["42"]
    assert ask(CAPTURES) == bytes.fromhex("2a1c0a0d0a07756e6e616d656412022a000a0b0a056e616d656412022a00")


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({"a": [None, 1]}, "2a160a140a0161120f320d0a000a0911000000000000f03f"),
        ({"a": None}, "2a050a030a0161"),
        ([1.5, True], "320f0a0911000000000000f83f0a022001"),
        ({1: "one", 2: "two", "lost": "x"}, "320e0a051a036f6e650a051a0374776f"),
        ({2: "lost", "kept": 1}, "2a130a110a046b657074120911000000000000f03f"),
    ],
)
def test_tables_become_lists_or_structs(stored: object, expected: str) -> None:
    """A null of JSON is a Value without a kind; a table with a list part loses its other part."""
    assert to_protobuf(SHARED, stored) == bytes.fromhex(expected)


def test_values_that_lua_lacks_are_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        to_protobuf(SHARED, object())


def test_spooled_body_is_nil_as_bytes_and_a_path_in_its_own_message() -> None:
    given = scene(body=Body(file=Path("/tmp/0000001")))
    as_bytes = Method("kong/request/get_raw_body", "Empty", "ByteString")
    assert ask(as_bytes, given=given) == b""
    own = EXTENDED.method("kong.request.get_raw_body")
    assert decode_result(own, ask(own, given=given)).path == "/tmp/0000001"
    assert ask(as_bytes, given=scene(body=Body(b"\x00\xff"))) == b"\x0a\x02\x00\xff"


def test_a_function_whose_message_is_a_value_must_give_one() -> None:
    """Kong's Lua tells a missing result from nil: kong.service.request.disable_tls gives no result."""
    with pytest.raises(Refused, match="gives no value"):
        ask(Method("kong.service.request.disable_tls", "Empty", "Value"))
    assert ask(EXTENDED.method("kong.vault.flush")) == b""
    assert ask(EXTENDED.method("kong.cluster.get_id")) == bytes.fromhex("0801")


def test_null_is_a_text_and_a_missing_argument_is_nil() -> None:
    assert ask(HEADER, "x", None) == bytes.fromhex("0801")
    null = bytes.fromhex("0a020800")
    event = scene([(b"null-value", b"found")]).event("access", "ProtoBuf:1")
    assert asyncio.run(answer(event, Interface([HEADER]), HEADER.name, null)) == b"\x1a\x05found"
    with pytest.raises(Refused, match="got nil"):
        ask(HEADER)


@pytest.mark.parametrize(
    "function", ["kong.request.get_header", "kong.response.get_header", "kong.service.response.get_header"]
)
def test_copies_for_log_have_one_name(function: str) -> None:
    """Kong's copies of headers have dotted names; by the second name the call is refused."""
    exact = Method(function.replace(".", "/"), "ListValue", "Value")
    with pytest.raises(Refused, match="under its dotted name alone"):
        ask(exact, "host", phase="log")
    assert ask(Method(function, "ListValue", "Value"), "nope", phase="log") == bytes.fromhex("0801")


def test_other_functions_have_both_names_in_log() -> None:
    assert ask(EXTENDED.method("kong/router/get_route"), phase="log") == bytes.fromhex("0801")


@pytest.mark.parametrize("function", ["kong.ctx.shared.get", "kong.nginx.get_var", "kong.log.serialize"])
def test_functions_of_plugin_servers_are_found_by_their_own_names(function: str) -> None:
    with pytest.raises(PluginFailed, match=function.replace(".", "/")):
        ask(Method(function.replace(".", "/"), "String", "Value"), "x", phase="log")


def test_a_name_that_the_file_does_not_have_is_unknown() -> None:
    stock = read("service Kong { rpc Log_Info(google.protobuf.ListValue) returns (google.protobuf.Empty); }")
    assert ask(stock.method("kong.log.info"), "x", interface=stock) == b""
    with pytest.raises(PluginFailed, match=r"kong\.log\.warn"):
        ask(EXTENDED.method("kong.log.warn"), "x", interface=stock)


def test_a_name_without_a_function_is_unknown() -> None:
    with pytest.raises(PluginFailed, match=r"kong\.request\.get_moon"):
        ask(Method("kong.request.get_moon", "Empty", "Value"))


def test_error_takes_the_arguments_of_a_list() -> None:
    with pytest.raises(Exit) as raised:
        ask(EXTENDED.method("kong.response.error"), 404, "nope", {"x-r": "s"})
    assert raised.value.status == 404
    assert (b"x-r", b"s") in raised.value.headers


@pytest.mark.parametrize("method", [method for method in EXTENDED if method.extended], ids=lambda method: method.name)
def test_every_method_of_the_extension_reaches_a_function(method: Method) -> None:
    """Each method is refused, exits or answers; none is unknown."""
    event = scene().event("access", "ProtoBuf:1")
    try:
        asyncio.run(answer(event, EXTENDED, method.name, b""))
    except (Refused, Exit):
        return
