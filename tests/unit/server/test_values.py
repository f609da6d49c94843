"""What a handler gets from PDK calls: the same over both protocols, and no byte lost."""

from __future__ import annotations

from typing import Any

import pytest
from kong_pdk.wire.errors import ArgumentError
from kong_pdk.wire.pdk import RawBody
from unit.server.fake_kong import MsgpackKong, ProtobufKong


@pytest.fixture
def ask(serve, connect):
    """Make one call in ``access``; gives what the handler got, and Kong's side."""

    def run(method: str, args: list[Any], protobuf: dict[str, Any], msgpack: dict[str, Any]) -> tuple[Any, Any]:
        got: list[Any] = []

        class Plugin:
            def __init__(self, config):
                pass

            def access(self, kong):
                target = kong
                for name in method.split(".")[1:]:
                    target = getattr(target, name)
                got.append(target(*args))

            response = access

        kong = connect(serve(Plugin))
        phase = "response" if ".response." in method else "access"
        assert kong.event(kong.start("probe"), phase, protobuf if kong.name == "ProtoBuf:1" else msgpack)
        return got[0], kong

    return run


def test_a_header_that_is_not_utf8_survives_a_round_trip(serve, connect):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            value, _ = kong.request.get_header("x-name")
            kong.response.set_header("x-name", value)

    kong = connect(serve(Plugin))
    latin1 = "Zoë".encode("latin-1").decode("utf-8", "surrogateescape")
    assert kong.event(kong.start("probe"), "access", {"kong.request.get_header": latin1})
    assert kong.made[-1] == ("kong.response.set_header", ["x-name", latin1])


@pytest.mark.parametrize(
    ("method", "protobuf", "msgpack"),
    [
        (
            "kong.request.get_query",
            {"a": "1", "flag": True, "b": ["2", "3"]},
            {"a": ["1"], "flag": [], "b": ["2", "3"]},
        ),
        ("kong.request.get_headers", {"a": "1", "b": ["2", "3"]}, {"a": ["1"], "b": ["2", "3"]}),
        ("kong.response.get_headers", {"a": "1", "b": ["2", "3"]}, {"a": ["1"], "b": ["2", "3"]}),
        ("kong.service.response.get_headers", {"a": "1", "b": ["2", "3"]}, {"a": ["1"], "b": ["2", "3"]}),
    ],
)
def test_headers_and_arguments_are_lists_of_values(ask, method, protobuf, msgpack):
    (value, err), _ = ask(method, [], {method: protobuf}, {method: msgpack})
    expected = {name: items or [True] for name, items in msgpack.items()}
    assert (value, err) == (expected, None)


def test_no_headers_are_an_empty_dict(ask):
    (value, _), _ = ask("kong.request.get_query", [], {}, {"kong.request.get_query": []})
    assert value == {}


@pytest.mark.parametrize(
    ("name", "expected"), [("flag", True), ("a", "1"), ("b", "2"), ("empty", ""), ("nosuch", None)]
)
def test_a_query_argument_without_value_is_true(serve, name, expected):
    """Over ProtoBuf:1 it comes from get_query: a client must not be able to cause a 500 by ``?flag``."""
    got: list[Any] = []

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            got.append(kong.request.get_query_arg(name))

    kong = ProtobufKong(serve(Plugin))
    arguments = {"a": "1", "flag": True, "b": ["2", "3"], "empty": ""}
    assert kong.event(kong.start("probe"), "access", {"kong.request.get_query": arguments})
    assert got == [(expected, None)]
    assert kong.made == [("kong.request.get_query", [100])]
    kong.close()


def test_a_body_is_bytes(ask):
    body = bytes(range(256))
    (value, err), _ = ask(
        "kong.request.get_raw_body",
        [],
        {"kong.request.get_raw_body": RawBody(content=body)},
        {"kong.request.get_raw_body": body},
    )
    assert (value, err) == (body, None)


@pytest.fixture
def raw_body(serve):
    """Read the request's body over ProtoBuf:1, from what Kong says of it."""

    def run(answer: RawBody) -> Any:
        got: list[Any] = []

        class Plugin:
            def __init__(self, config):
                pass

            def access(self, kong):
                got.append(kong.request.get_raw_body())

        kong = ProtobufKong(serve(Plugin))
        assert kong.event(kong.start("probe"), "access", {"kong.request.get_raw_body": answer})
        kong.close()
        return got[0]

    return run


def test_a_large_body_is_read_from_the_file_that_kong_names(raw_body, tmp_path):
    file = tmp_path / "0000000001"
    file.write_bytes(b"x" * 20000)
    assert raw_body(RawBody(path=str(file))) == (b"x" * 20000, None)


def test_a_large_body_whose_file_is_gone_is_an_error_with_its_name(raw_body, tmp_path):
    value, err = raw_body(RawBody(path=str(tmp_path / "gone")))
    assert value is None
    assert "gone" in err and "Kong's user" in err


def test_captures_are_numbered_as_in_lua(ask):
    (value, _), _ = ask(
        "kong.request.get_uri_captures",
        [],
        {"kong.request.get_uri_captures": {"unnamed": ["42", "word"], "named": {"id": "42"}}},
        {"kong.request.get_uri_captures": {"unnamed": ["42", "word"], "named": {"id": "42"}}},
    )
    assert value == {"unnamed": {1: "42", 2: "word"}, "named": {"id": "42"}}


@pytest.mark.parametrize("method", ["kong.request.get_header", "kong.response.get_header", "kong.nginx.get_var"])
def test_a_missing_value_is_none(ask, method):
    (value, err), _ = ask(method, ["x"], {method: None}, {method: None})
    assert (value, err) == (None, None)


def test_integers_stay_integers(ask):
    (value, _), _ = ask(
        "kong.ctx.shared.get", ["k"], {"kong.ctx.shared.get": [1, 2.5]}, {"kong.ctx.shared.get": [1, 2.5]}
    )
    assert value == [1, 2.5]
    assert isinstance(value[0], int)


@pytest.mark.parametrize("value", [False, [1, False], {"a": None}])
def test_what_protobuf_would_change_is_refused(serve, value):
    caught: list[ArgumentError] = []

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            try:
                kong.ctx.shared.set("k", value)
            except ArgumentError as error:
                caught.append(error)

    kong = ProtobufKong(serve(Plugin))
    assert kong.event(kong.start("probe"), "access")
    assert kong.made == []
    assert "kong.ctx.shared.set" in str(caught[0]) and "KONG_PYTHON_PROTOCOL=msgpack" in str(caught[0])
    kong.close()


def test_any_value_goes_over_msgpack(serve):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.ctx.shared.set("k", {"a": [False, None, 1]})
            kong.request.get_body("application/json")

    kong = MsgpackKong(serve(Plugin))
    assert kong.event(kong.start("probe"), "access")
    assert kong.made == [
        ("kong.ctx.shared.set", ["k", {"a": [False, None, 1]}]),
        ("kong.request.get_body", ["application/json"]),
    ]
    kong.close()


def test_false_and_none_in_a_log_line_are_lua_s_words(serve):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.log.err("a ", False, None, True, 1)

    kong = ProtobufKong(serve(Plugin))
    assert kong.event(kong.start("probe"), "access")
    assert kong.made == [("kong.log.err", ["a ", "false", "nil", True, 1])]
    kong.close()
