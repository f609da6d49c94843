"""Arguments and results of PDK calls over ProtoBuf:1."""

from __future__ import annotations

import json

import pytest
from kong_pdk.wire.pdk_functions import METHODS
from kong_pdk.wire.pdk_values.protobuf_arguments import decode_arguments, encode_arguments
from kong_pdk.wire.pdk_values.protobuf_results import RawBody, decode_result, encode_result
from kong_pdk.wire.wire_errors import ArgumentError, WireError

EXIT = METHODS["kong.response.exit"]
LATIN1 = b"Zo\xeb".decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("method", "given", "read"),
    [
        ("kong.request.get_method", [], []),
        ("kong.request.get_method", [None], []),
        ("kong.request.get_header", ["x-a"], ["x-a"]),
        ("kong.request.get_header", [LATIN1], [LATIN1]),
        ("kong.request.get_header", [b"Zo\xeb"], [LATIN1]),
        ("kong.request.get_headers", [], [100]),
        ("kong.request.get_headers", [None], [100]),
        ("kong.request.get_headers", [5], [5]),
        ("kong.request.get_query", [5.0], [5]),
        ("kong.response.set_status", [418], [418]),
        ("kong.client.get_protocol", [], [False]),
        ("kong.client.get_protocol", [True], [True]),
        ("kong.response.set_header", ["x", "y"], ["x", "y"]),
        ("kong.response.set_header", ["x", 5], ["x", 5]),
        ("kong.response.add_header", ["x", ["y", "z"]], ["x", ["y", "z"]]),
        ("kong.response.set_header", ["x", False], ["x", "false"]),
        ("kong.service.request.add_header", ["x", [True, False]], ["x", [True, "false"]]),
        ("kong.service.request.set_headers", [{"x": False, "y": [False], "z": None}], [{"x": "false", "y": ["false"]}]),
        ("kong.service.request.set_query", [{"a": True, "b": False, "c": None, "d": ["1", False, None]}],
         [{"a": True, "d": ["1"]}]),
        ("kong.response.exit", [200, "b", {"x": False, "y": None}], [200, b"b", {"x": "false"}]),
        ("kong.response.error", [500, "b", {"x": False, "y": None}], [500, "b", {"x": "false"}]),
        ("kong.ctx.shared.set", ["k", {"a": [1, {"b": 0.5}]}], ["k", {"a": [1, {"b": 0.5}]}]),
        ("kong.ctx.shared.set", ["k", None], ["k", None]),
        ("kong.ctx.shared.set", ["k", {"a": None, "b": 1}], ["k", {"b": 1}]),
        ("kong.log.err", ["a", 1, None, False, True], ["a", 1, "nil", "false", True]),
        ("kong.response.set_headers", [{"x": "y", "z": ["1", "2"]}], [{"x": "y", "z": ["1", "2"]}]),
        ("kong.response.exit", [403], [403, b"", None]),
        ("kong.response.exit", [403, "no"], [403, b"no", None]),
        ("kong.response.exit", [200, b"\0\xff", {"a": "b"}], [200, b"\0\xff", {"a": "b"}]),
        ("kong.service.set_target", ["h", 80], ["h", 80]),
        ("kong.service.request.set_raw_body", [b"\0\xff"], [b"\0\xff"]),
        ("kong.client.load_consumer", ["alice", True], ["alice", True]),
        ("kong.log", [None, False], ["nil", "false"]),
        ("kong.log.inspect", [{"a": [None, False]}], [{"a": ["nil", "false"]}]),
        ("kong.request.get_body", ["application/json", 5], ["application/json", 5]),
        ("kong.service.set_tls_verify", [False], [False]),
        ("kong/request/get_header", ["x-a"], ["x-a"]),
        ("kong/log/set_serialize_value", ["k", 1, {"mode": "set"}], ["k", 1, {"mode": "set"}]),
        ("kong.client.authenticate", [None, None], [None, None]),
        ("kong.client.authenticate", [{"id": "1"}, {"id": "2", "consumer_id": "1"}],
         [{"id": "1"}, {"id": "2", "consumer_id": "1"}]),
    ],
)  # fmt: skip
def test_arguments_arrive(method, given, read):
    assert decode_arguments(METHODS[method], encode_arguments(METHODS[method], given)) == read


def test_a_table_as_body_is_json_with_its_type():
    payload = encode_arguments(EXIT, [403, {"message": "né", "ok": False, "n": None}])
    status, body, headers = decode_arguments(EXIT, payload)
    assert status == 403
    assert json.loads(body) == {"message": "né", "ok": False, "n": None}
    assert b" " not in body
    assert headers == {"content-type": "application/json; charset=utf-8"}


def test_a_content_type_of_the_author_wins():
    arguments = encode_arguments(EXIT, [403, {}, {"Content-Type": "application/problem+json"}])
    assert decode_arguments(EXIT, arguments)[2] == {"Content-Type": "application/problem+json"}


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("kong.request.get_header", []),
        ("kong.request.get_header", [5]),
        ("kong.request.get_header", ["a", "b"]),
        ("kong.request.get_method", ["x"]),
        ("kong.request.get_headers", ["x"]),
        ("kong.request.get_headers", [True]),
        ("kong.response.set_status", []),
        ("kong.response.set_status", ["x"]),
        ("kong.response.set_status", [2**31]),
        ("kong.response.set_status", [1.5]),
        ("kong.response.set_header", ["x", object()]),
        ("kong.response.set_header", ["x", ["a", None]]),
        ("kong.ctx.shared.set", ["k", False]),
        ("kong.ctx.shared.set", ["k", [None]]),
        ("kong.nginx.set_ctx", ["k", {"a": False}]),
        ("kong.response.set_headers", ["x"]),
        ("kong.response.exit", []),
        ("kong.response.exit", [200, 5]),
        ("kong.response.exit", [200, {"x": object()}]),
        ("kong.service.set_target", ["h", "80"]),
        ("kong.client.load_consumer", [5]),
        ("kong.client.get_protocol", ["yes"]),
        ("kong.request.get_body", [None, 10]),
        ("kong.service.request.set_body", [{"a": False}]),
        ("kong.client.authenticate", ["alice"]),
        ("kong.client.authenticate", [{"id": 5}]),
    ],
)
def test_values_that_do_not_fit_the_message_are_refused_by_name(method, args):
    with pytest.raises(ArgumentError, match=method):
        encode_arguments(METHODS[method], args)


def test_arguments_longer_than_a_message_are_refused_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kong_pdk.wire.pdk_values.protobuf_arguments.MAX_FRAME", 100)
    with pytest.raises(ArgumentError, match="set_raw_body: the arguments are 103 bytes long"):
        encode_arguments(METHODS["kong.service.request.set_raw_body"], [b"x" * 101])
    assert encode_arguments(METHODS["kong.service.request.set_raw_body"], [b"x" * 90])


@pytest.mark.parametrize(
    ("method", "value", "read"),
    [
        ("kong.request.get_header", "v", "v"),
        ("kong.request.get_header", LATIN1, LATIN1),
        ("kong.request.get_header", None, ""),
        ("kong.request.get_port", 8000, 8000),
        ("kong.request.get_http_version", 1.1, 1.1),
        ("kong.request.get_http_version", 2, 2),
        ("kong.ip.is_trusted", True, True),
        ("kong.response.set_header", None, None),
        ("kong.ctx.shared.get", {"a": [1, None, False]}, {"a": [1, None, False]}),
        ("kong.ctx.shared.get", None, None),
        ("kong/request/get_header", "", ""),
        ("kong/request/get_header", None, None),
        ("kong/router/get_route", {"id": "1", "headers": {"x": ["y"]}}, {"id": "1", "headers": {"x": ["y"]}}),
        ("kong.request.get_headers", {"a": "b", LATIN1: [LATIN1, "c"]}, {"a": "b", LATIN1: [LATIN1, "c"]}),
        ("kong.request.get_raw_body", RawBody(content=b"\xff"), RawBody(content=b"\xff")),
        ("kong.request.get_raw_body", RawBody(path="/tmp/1"), RawBody(path="/tmp/1")),
        ("kong.request.get_raw_body", RawBody(error="e"), RawBody(error="e")),
        ("kong.service.response.get_raw_body", b"\0\xff", b"\0\xff"),
        ("kong.client.get_consumer", None, None),
        ("kong.client.get_consumer", {"id": "1", "username": "a", "more": 1}, {"id": "1", "username": "a"}),
        ("kong.router.get_service", {"id": "1", "port": 80.0, "tags": ["t"]}, {"id": "1", "port": 80, "tags": ["t"]}),
        ("kong.router.get_route", {"id": "1", "service": {"id": "2"}, "paths": ["/"]},
         {"id": "1", "service": {"id": "2"}, "paths": ["/"]}),
    ],
)  # fmt: skip
def test_results_arrive(method, value, read):
    assert decode_result(METHODS[method], encode_result(METHODS[method], value)) == read


def test_kong_s_nil_is_none():
    """Kong writes nil as a null of a number that the schema does not name."""
    assert encode_result(METHODS["kong.ctx.shared.get"], None) == b"\x08\x01"
    assert decode_result(METHODS["kong.ctx.shared.get"], b"\x08\x01") is None


def test_a_result_that_is_not_a_message_is_refused():
    with pytest.raises(WireError):
        decode_result(METHODS["kong.request.get_headers"], b"\xff\xff")
