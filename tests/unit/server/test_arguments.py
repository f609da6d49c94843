"""Arguments of PDK calls: each arrives in Kong unchanged, or the call is refused with its name."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from fake_kong import ExtendedKong, MsgpackKong, ProtobufKong
from kong_pdk import UnknownFunctionError
from kong_pdk.wire import msgpack_codec
from kong_pdk.wire.interface import EXTENDED
from kong_pdk.wire.pdk_values import protobuf_arguments as wire_arguments
from kong_pdk.wire.wire_errors import ArgumentError


@pytest.mark.parametrize("value", [False, [1, False], {"a": False}])
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
            kong.ctx.shared.set("k", {"a": [False, 1], "b": None})
            kong.request.get_body("application/json")

    kong = MsgpackKong(serve(Plugin))
    assert kong.event(kong.start("probe"), "access")
    assert kong.made == [
        ("kong.ctx.shared.set", ["k", {"a": [False, 1], "b": None}]),
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


def make_calls(serve, connect, calls, answers=None):
    """Make calls in `access`; return the calls that reach Kong."""

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            calls(kong)

    kong = connect(serve(Plugin))
    kong.event(kong.start("probe"), "access", answers)
    return kong


def test_a_body_left_out_in_front_of_headers_does_not_cost_them(serve, connect_any):
    kong = make_calls(serve, connect_any, lambda kong: kong.response.exit(401, None, {"www-authenticate": "Basic"}))
    ((_, (status, body, headers)),) = kong.made
    assert (status, body or b"", headers) in [
        (401, "", {"www-authenticate": "Basic"}),
        (401, b"", {"www-authenticate": "Basic"}),
    ]


def test_an_error_without_words_has_those_of_kong(serve, connect_whole):
    kong = make_calls(serve, connect_whole, lambda kong: kong.response.error(404, None, {"x-why": "gone"}))
    assert kong.made == [("kong.response.error", [404, "Not found", {"x-why": "gone"}])]


def test_a_query_leaves_out_what_is_not_there(serve, connect_any):
    query = {"a": True, "b": False, "c": None, "d": ["1", None, False], "e": [None]}
    kong = make_calls(serve, connect_any, lambda kong: kong.service.request.set_query(query))
    assert kong.made == [("kong.service.request.set_query", [{"a": True, "d": ["1"]}])]


def test_json_of_an_exit_holds_what_lua_has_not(serve, connect_any):
    kong = make_calls(serve, connect_any, lambda kong: kong.response.exit(200, {"a": None, "b": [], "c": False}))
    ((_, (_, body, headers)),) = kong.made
    assert json.loads(body) == {"a": None, "b": [], "c": False}
    assert headers == {"content-type": "application/json; charset=utf-8"}


def refused(serve, connect, call):
    caught: list[ArgumentError] = []

    def calls(kong):
        with pytest.raises(ArgumentError) as raised:
            call(kong)
        caught.append(raised.value)

    assert make_calls(serve, connect, calls).made == []
    return str(caught[0])


def test_none_in_front_of_an_argument_is_refused(serve, connect_whole):
    text = refused(serve, connect_whole, lambda kong: kong.request.get_body(None, 10))
    assert text.startswith("kong.request.get_body: ")


def test_none_in_front_of_the_size_of_a_file_is_kong_s_own_number(serve, connect_whole):
    kong = make_calls(serve, connect_whole, lambda kong: kong.request.get_body("application/json", None, 5000))
    assert kong.made == [("kong.request.get_body", ["application/json", 100, 5000])]


@pytest.mark.parametrize("name", [5, ["a"], {"a": 1}])
def test_the_name_of_a_query_argument_is_text(serve, name):
    with ExitStack() as stack:

        def connect(server):
            kong = ProtobufKong(server)
            stack.callback(kong.close)
            return kong

        text = refused(serve, connect, lambda kong: kong.request.get_query_arg(name))
    assert text.startswith("kong.request.get_query_arg: argument 1 must be a string")


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ({1: "a", None: {2.5: "b"}}, {"1": "a", "null": {"2.5": "b"}}),
        (MappingProxyType({"a": MappingProxyType({})}), {"a": {}}),
        ([2**70, -5], [2.0**70, -5]),
    ],
)
def test_values_are_sent_alike(serve, connect_any, value, sent):
    """Lua would take the name 1 for a place in a list, and MessagePack has no integers of any size."""
    kong = make_calls(serve, connect_any, lambda kong: kong.ctx.shared.set("k", value))
    assert kong.made == [("kong.ctx.shared.set", ["k", sent])]


def test_a_function_that_kong_has_not_is_warned_of_once(serve, caplog):
    with ExitStack() as stack:

        def connect(server):
            kong = MsgpackKong(server)
            stack.callback(kong.close)
            return kong

        def calls(kong):
            for _ in range(2):
                assert kong.request.get_hedaer("x") == (None, None)
                kong.request.get_header("x")

        make_calls(serve, connect, calls)
    (warned,) = [record.message for record in caplog.records if "no function" in record.message]
    assert warned == "Kong 3.9 has no function kong.request.get_hedaer; did you mean kong.request.get_header?"


def test_none_within_a_list_is_refused(serve, connect_any):
    text = refused(serve, connect_any, lambda kong: kong.ctx.shared.set("k", [1, None, 2]))
    assert text.startswith("kong.ctx.shared.set: ")


def test_a_credential_without_a_consumer_goes_over_protobuf_alone(serve, connect_any):
    credential = {"id": "2", "consumer_id": "1"}
    if connect_any(serve(object)).name == "ProtoBuf:1":
        kong = make_calls(serve, connect_any, lambda kong: kong.client.authenticate(None, credential))
        assert kong.made == [("kong.client.authenticate", [None, credential])]
    else:
        text = refused(serve, connect_any, lambda kong: kong.client.authenticate(None, credential))
        assert "KONG_PYTHON_PROTOCOL=protobuf" in text


CONSUMER = {"id": "1", "username": "anna", "updated_at": 5, "created_at": 4, "tags": ["a"]}
CREDENTIAL = {"id": "2", "key": "k", "username": "login", "consumer": {"id": "1"}}


@pytest.mark.parametrize("consumer", [CONSUMER, {**CONSUMER, "custom_id": None}])
def test_all_fields_of_who_is_authenticated_arrive(serve, connect_whole, consumer):
    kong = make_calls(serve, connect_whole, lambda kong: kong.client.authenticate(consumer, CREDENTIAL))
    ((method, (got, credential)),) = kong.made
    assert method == "kong.client.authenticate" and credential == CREDENTIAL
    assert {name: value for name, value in got.items() if value is not None} == CONSUMER


def test_a_consumer_alone_arrives(serve, connect_whole):
    kong = make_calls(serve, connect_whole, lambda kong: kong.client.authenticate(CONSUMER, None))
    ((_, (got, *rest)),) = kong.made
    assert got == CONSUMER and rest in ([], [None])


@pytest.mark.parametrize(
    ("args", "lost"),
    [
        ((CONSUMER, {"id": "2"}), "the consumer does not have updated_at"),
        (({"id": "1"}, CREDENTIAL), "the credential does not have key, username, consumer"),
    ],
)
def test_fields_that_an_unmodified_kong_would_lose_are_named(serve, args, lost):
    with ExitStack() as stack:

        def connect(server):
            stack.callback((kong := ProtobufKong(server)).close)
            return kong

        text = refused(serve, connect, lambda kong: kong.client.authenticate(*args))
    assert lost in text and "kong-python extend-interface" in text and "KONG_PYTHON_PROTOCOL=msgpack" in text


def test_fields_of_a_credential_without_a_consumer_are_named(serve):
    with ExitStack() as stack:

        def connect(server):
            stack.callback((kong := ExtendedKong(server)).close)
            return kong

        serve.interface = EXTENDED
        text = refused(serve, connect, lambda kong: kong.client.authenticate(None, CREDENTIAL))
    assert "the credential does not have key, username, consumer" in text and "both consumer and credential" in text


def test_a_nil_in_a_log_line_does_not_cost_the_rest(serve, connect_any):
    kong = make_calls(serve, connect_any, lambda kong: kong.log.err("a", None, "b", {"c": [None]}))
    assert kong.made == [("kong.log.err", ["a", "nil", "b", "{'c': [None]}"])]


def test_a_line_of_the_log_takes_any_object(serve, connect_any):
    line = (ValueError("no"), " ", [Path("/a")], 2**70)
    kong = make_calls(serve, connect_any, lambda kong: kong.log.err(*line))
    assert kong.made == [("kong.log.err", ["no", " ", "[PosixPath('/a')]", str(2**70)])]


JSON_BODY = {"a": None, "b": [], "c": False}


@pytest.mark.parametrize(
    ("args", "received"),
    [(["application/json"], None), ([], "application/json"), ([], "application/json; charset=utf-8")],
)
def test_json_that_lua_has_not_is_sent_raw(serve, connect_whole, args, received):
    got: list[Any] = []
    kong = make_calls(
        serve,
        connect_whole,
        lambda kong: got.append(kong.service.request.set_body(JSON_BODY, *args)),
        {"kong.request.get_header": received},
    )
    made = dict(kong.made)
    assert json.loads(made["kong.service.request.set_raw_body"][0]) == JSON_BODY
    assert made["kong.service.request.set_header"] == ["content-type", "application/json"]
    assert "kong.service.request.set_body" not in made
    assert got == [(True, None)]


def test_a_form_leaves_out_what_is_not_there(serve, connect_whole):
    form = {"a": "1", "b": False, "c": None, "d": ["2", None], "e": []}
    kong = make_calls(
        serve, connect_whole, lambda kong: kong.service.request.set_body(form, "application/x-www-form-urlencoded"),
        {"kong.service.request.set_body": True},
    )  # fmt: skip
    wanted = [{"a": "1", "d": ["2"]}, "application/x-www-form-urlencoded"]
    assert kong.made == [("kong.service.request.set_body", wanted)]


@pytest.mark.parametrize("args", [[{"a": 1}], [{"a": 1}, "application/json"]])
def test_a_body_that_lua_has_is_kong_s_to_write(serve, connect_whole, args):
    kong = make_calls(serve, connect_whole, lambda kong: kong.service.request.set_body(*args))
    assert kong.made == [("kong.service.request.set_body", args)]


@pytest.mark.parametrize("body", [JSON_BODY, {"a": 1}])
def test_a_body_without_a_type_is_an_error(serve, connect_whole, body):
    """Kong gives nil, and its message does not travel."""
    got: list[Any] = []
    kong = make_calls(serve, connect_whole, lambda kong: got.append(kong.service.request.set_body(body)))
    assert kong.made[-1] in [("kong.request.get_header", ["content-type"]), ("kong.service.request.set_body", [body])]
    ((value, error),) = got
    assert value is None and "Content-Type" in error and '"application/json"' in error


def test_a_body_that_is_text_is_refused(serve, connect_whole):
    text = refused(serve, connect_whole, lambda kong: kong.service.request.set_body('{"a": 1}'))
    assert "argument 1 must be a dict or a list, not str" in text and "set_raw_body" in text


def test_an_upstream_that_is_not_there_is_an_error(serve, connect_any):
    got: list[Any] = []
    answers = {"kong.service.set_upstream": lambda name: True if name == "there" else None}

    def calls(kong: Any) -> None:
        got.extend(kong.service.set_upstream(name) for name in ("there", "nowhere"))

    make_calls(serve, connect_any, calls, answers)
    assert got[0] == (True, None)
    assert got[1][0] is None and "no upstream 'nowhere'" in got[1][1]


@pytest.mark.parametrize("part", ["response", "service.request"])
@pytest.mark.parametrize("name", ["set_header", "add_header"])
def test_a_header_without_a_value_is_refused(serve, connect_any, part, name):
    def call(kong: Any) -> None:
        for step in part.split("."):
            kong = getattr(kong, step)
        getattr(kong, name)("x-a", None)

    text = refused(serve, connect_any, call)
    assert text.startswith(f"kong.{part}.{name}: argument 2") and f"kong.{part}.clear_header" in text


@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_goes_over_every_protocol(serve, connect_whole, value):
    kong = make_calls(serve, connect_whole, lambda kong: kong.service.set_tls_verify(value))
    assert kong.made == [("kong.service.set_tls_verify", [value])]


def test_a_method_that_an_unmodified_kong_lacks_is_named_in_a_message(serve):
    text = None

    def calls(kong):
        nonlocal text
        with pytest.raises(UnknownFunctionError) as raised:
            kong.request.get_body()
        text = str(raised.value)

    make_calls(serve, ProtobufKong, calls).close()
    assert text.startswith("kong.request.get_body is not among the methods that Kong's interface file names")
    assert "kong-python extend-interface" in text and "KONG_PYTHON_PROTOCOL=msgpack" in text


@pytest.mark.parametrize(
    "call",
    [
        lambda kong, value: kong.ctx.shared.set("k", value),
        lambda kong, value: kong.response.exit(200, value),
        lambda kong, value: kong.service.request.set_body(value, "application/json"),
    ],
)
def test_what_has_no_end_is_refused(serve, connect_whole, call):
    endless: dict[str, Any] = {}
    endless["more"] = [endless]
    text = refused(serve, connect_whole, lambda kong: call(kong, endless))
    assert "nested too deeply" in text or "Circular" in text or "recursion" in text


@pytest.mark.parametrize("value", [{"a": None, "b": b"\xff"}, MappingProxyType({"a": None, "b": "\udcff"})])
def test_json_has_any_text(serve, connect_any, value):
    kong = make_calls(serve, connect_any, lambda kong: kong.response.exit(200, value))
    ((_, (_, body, _)),) = kong.made
    assert body in (b'{"a":null,"b":"\xff"}', '{"a":null,"b":"\udcff"}')


@pytest.mark.parametrize("value", [{"a": None, "b": float("nan")}, {"a": None, "b": object()}])
def test_what_json_has_not_is_refused(serve, connect_any, value):
    assert refused(serve, connect_any, lambda kong: kong.response.exit(200, value)).startswith("kong.response.exit: ")


@pytest.mark.parametrize("consumer", [{"id": "1"}, None])
@pytest.mark.parametrize("args", [["1"], ["1", False], ["alice", True]])
def test_a_consumer_by_id_is_asked_for_before_it_is_loaded_whole(serve, args, consumer):
    """Where there is none, Kong's function by id gives no value at all, and a Value cannot be made of that."""
    serve.interface = EXTENDED
    got: list[Any] = []
    kong = make_calls(
        serve,
        ExtendedKong,
        lambda kong: got.append(kong.client.load_consumer(*args)),
        {"kong.client.load_consumer": consumer},
    )
    by_id = args[1:] != [True]
    assert len(kong.made) == (2 if by_id and consumer else 1)
    assert kong.wire_names[0] == ("kong.client.load_consumer" if by_id else "kong/client/load_consumer")
    assert got == [(consumer, None)]
    kong.close()


def test_more_than_a_message_holds_is_refused(serve, connect_any, monkeypatch):
    limit = 100_000
    monkeypatch.setattr(msgpack_codec, "MAX_MESSAGE", limit)
    monkeypatch.setattr(wire_arguments, "MAX_FRAME", limit)
    text = refused(serve, connect_any, lambda kong: kong.ctx.shared.set("k", "x" * limit))
    assert text.startswith("kong.ctx.shared.set: the arguments are") and f"at most {limit} can be sent" in text


def test_the_field_of_an_entity_that_cannot_be_sent_is_named(serve):
    with ExitStack() as stack:

        def connect(server):
            stack.callback((kong := ProtobufKong(server)).close)
            return kong

        for consumer, field in (({"custom_id": 5}, "custom_id"), ({"id": "1", "tags": "a"}, "tags")):
            assert f" {field}" in refused(serve, connect, lambda kong, c=consumer: kong.client.authenticate(c, None))
