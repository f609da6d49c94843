"""What a handler gets from PDK calls: the same over both protocols, and no byte lost."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import pytest
from fake_kong import MsgpackKong, ProtobufKong
from kong_pdk.wire.interface import EXTENDED
from kong_pdk.wire.pdk_functions import allowed
from kong_pdk.wire.pdk_values.protobuf_results import RawBody
from kong_pdk.wire.pdk_values.results import from_msgpack


@pytest.fixture
def ask(serve, connect_any):
    """Make one call in ``access``; return the handler's result, and Kong's side."""

    def run(method: str, args: list[Any], protobuf: dict[str, Any], msgpack: dict[str, Any]) -> tuple[Any, Any]:
        got: list[Any] = []

        class Plugin:
            def __init__(self, config):
                pass

            def access(self, kong):
                got.append(attrgetter(method.removeprefix("kong."))(kong)(*args))

            response = log = access

        kong = connect_any(serve(Plugin))
        phase = next(phase for phase in ("access", "response", "log") if allowed(method, phase))
        assert kong.event(kong.start("probe"), phase, protobuf if kong.name == "ProtoBuf:1" else msgpack)
        return got[0], kong

    return run


def test_a_header_that_is_not_utf8_survives_a_round_trip(serve, connect_any):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            value, _ = kong.request.get_header("x-name")
            kong.response.set_header("x-name", value)

    kong = connect_any(serve(Plugin))
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
    ("name", "expected"), [("flag", True), (b"flag", True), ("a", "1"), ("b", "2"), ("empty", ""), ("nosuch", None)]
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
        {"kong.request.get_raw_body": body, "kong.request.get_body": []},
    )
    assert (value, err) == (body, None)


def test_a_large_body_over_msgpack_is_an_error_with_its_hint(serve):
    """Kong would refuse to read it, and the event would end without a word: so it is asked for as a form before."""
    got: list[Any] = []

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            got.append(kong.request.get_raw_body())

    kong = MsgpackKong(serve(Plugin))
    assert kong.event(kong.start("probe"), "access", {"kong.request.get_body": None})
    assert kong.made == [("kong.request.get_body", ["application/x-www-form-urlencoded", 1])]
    value, err = got[0]
    assert value is None
    assert "ProtoBuf:1" in err and "KONG_NGINX_HTTP_CLIENT_BODY_BUFFER_SIZE" in err
    kong.close()


@pytest.fixture
def raw_body(serve):
    """Read the request's body over ProtoBuf:1, from Kong's description of it."""

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


@pytest.mark.parametrize("excess", [0, 1])
def test_a_body_that_is_larger_than_the_setting_allows_is_not_read(raw_body, tmp_path, monkeypatch, excess):
    monkeypatch.setenv("KONG_PYTHON_BODY_MEBIBYTES", "1")
    file = tmp_path / "0000000001"
    file.write_bytes(b"x" * (1024 * 1024 + excess))
    value, err = raw_body(RawBody(path=str(file)))
    if excess:
        assert (value, err) == (None, "the request body is larger than KONG_PYTHON_BODY_MEBIBYTES allows (1 MiB)")
    else:
        assert (value, err) == (file.read_bytes(), None)


def test_a_large_body_whose_file_is_gone_is_an_error_with_its_name(raw_body, tmp_path):
    value, err = raw_body(RawBody(path=str(tmp_path / "gone")))
    assert value is None
    assert "gone" in err and "Kong's user" in err


def test_captures_are_numbered_as_in_lua(ask):
    (value, _), _ = ask(
        "kong.request.get_uri_captures",
        [],
        {"kong.request.get_uri_captures": {"unnamed": ["42", "word"], "named": {"id": "42"}}},
        {"kong.request.get_uri_captures": {"unnamed": {0: "/42/word", 1: "42", 2: "word"}, "named": {"id": "42"}}},
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


@pytest.mark.parametrize(
    ("method", "args", "given", "expected"),
    [
        ("kong.ctx.shared.get", ["k"], {}, {}),
        ("kong.request.get_headers", [], {}, {}),
        ("kong.router.get_route", [], {"paths": ["/"], "strip_path": True}, {"paths": ["/"], "strip_path": True}),
        ("kong.router.get_service", [], None, None),
        ("kong.client.get_consumer", [], None, None),
        ("kong.client.load_consumer", ["nobody", True], None, None),
        ("kong.client.get_forwarded_port", [], None, None),
        ("kong.client.get_protocol", [], None, None),
        ("kong.service.response.get_status", [], None, None),
        ("kong.request.get_http_version", [], 2, 2),
        ("kong.request.get_raw_query", [], "", ""),
        ("kong.nginx.get_var", ["x"], "", None),
        ("kong.nginx.get_tls1_version_str", [], "", None),
        ("kong.log.serialize", [], "{}", "{}"),
    ],
)
def test_the_protocol_does_not_show(ask, method, args, given, expected):
    (value, err), _ = ask(method, args, {method: given}, {method: [] if given == {} else given})
    assert (value, err) == (expected, None)
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("function", "given", "expected"),
    [
        ("kong.request.get_body", {"a": 1.0, "b": [], "c": {"d": b"x"}}, {"a": 1, "b": {}, "c": {"d": "x"}}),
        ("kong.router.get_route", {"methods": [], "headers": []}, {"methods": [], "headers": {}}),
        ("kong.request.get_uri_captures", {"unnamed": {0: "a", 2: "b", 1: False}, "named": []},
         {"unnamed": {1: "", 2: "b"}, "named": {}}),
    ],
)  # fmt: skip
def test_msgpack_values_become_those_of_protobuf(function, given, expected):
    assert repr(from_msgpack(function, given)) == repr(expected)


@pytest.mark.parametrize(("answer", "expected"), [("", ""), (None, None)])
def test_empty_and_missing_header_are_told_apart(serve, connect_any, answer, expected):
    """But not by an unmodified Kong over ProtoBuf:1, outside of `log`."""
    got: list[Any] = []

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            got.append(kong.request.get_header("X_Empty"))

        log = access

    kong = connect_any(serve(Plugin))
    headers = {} if answer is None else {"x-empty": [answer] if kong.name == "MsgPack:1" else answer}
    answers = {"kong.request.get_header": answer, "kong.request.get_headers": headers}
    stock = kong.name == "ProtoBuf:1" and kong.interface != EXTENDED
    assert kong.event(kong.start("probe"), "access", answers)
    assert got == [(None if stock else expected, None)]
    assert kong.event(kong.start("probe"), "log", answers)
    assert got[1] == (expected, None)


def test_a_deep_value_over_msgpack_is_no_error():
    """How deeply a body is nested is for the client to say."""
    value: Any = []
    for _ in range(5000):
        value = [value]
    found = from_msgpack("kong.request.get_body", value)
    for _ in range(5000):
        (found,) = found
    assert found == {}
