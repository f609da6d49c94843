"""PDK functions that the recordings do not cover, or that users often use wrongly."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest
from kong_pdk.gateway.entities import Config, Consumer, Credential, Route, Service, Upstream
from kong_pdk.gateway.exchange import Body, Exit, Refused, ServiceResponse
from kong_pdk.gateway.pdk import UnknownFunction
from kong_pdk.gateway.pdk.dispatch import FUNCTIONS, gives_nothing
from kong_pdk.wire.interface import STOCK
from kong_pdk.wire.pdk_functions import allowed
from kong_pdk.wire.pdk_values.protobuf_results import RawBody
from unit.gateway.pdk.exchanges import Scene, scene

PROXIED = [(b"Host", b"here.test"), (b"X-Forwarded-Proto", b"HTTPS"), (b"X-Forwarded-Host", b"u@Out.test:444")]


def test_every_stock_method_that_works_over_http_exists() -> None:
    phases = ("rewrite", "access", "response", "log")
    working = {each.name for each in STOCK if any(allowed(each.name, phase) is not False for phase in phases)}
    assert working <= set(FUNCTIONS)


def test_missing_function_is_named() -> None:
    with pytest.raises(UnknownFunction, match=r"kong\.request\.get_moon"):
        scene().call("kong.request.get_moon")


def test_table_cannot_be_called() -> None:
    with pytest.raises(Refused, match="table"):
        scene().call("kong.request")


def test_refusal_names_the_allowed_phases() -> None:
    with pytest.raises(Refused, match="only in: response, log"):
        scene().call("kong.response.get_status")


def test_too_many_arguments_are_dropped() -> None:
    assert scene().call("kong.request.get_header", "host", 1, 2) == "here.test"


@pytest.mark.parametrize(
    ("trusted", "expected"), [(True, ("https", "out.test", 444)), (False, ("http", "here.test", 8000))]
)
def test_forwarding_headers_count_from_trusted_proxies(trusted: bool, expected: tuple[Any, ...]) -> None:
    given = scene(PROXIED, trusted=trusted)
    names = ("get_forwarded_scheme", "get_forwarded_host", "get_forwarded_port")
    assert tuple(given.call(f"kong.request.{name}") for name in names) == expected


@pytest.mark.parametrize("port", [b"0", b"70000", b"x", b"\xb2"])
def test_invalid_forwarded_port_is_ignored(port: bytes) -> None:
    given = scene([(b"X-Forwarded-Port", port)], trusted=True)
    assert given.call("kong.request.get_forwarded_port") == 8000


@pytest.mark.parametrize(
    ("value", "address", "port"),
    [
        (b"203.0.113.9", "203.0.113.9", None),
        (b"203.0.113.9:55", "203.0.113.9", 55),
        (b"[2001:db8::1]:55", "2001:db8::1", 55),
        (b"2001:db8::1", "2001:db8::1", None),
        (b"nonsense", "127.0.0.1", 4711),
        (b"", "127.0.0.1", 4711),
    ],
)
def test_real_ip(value: bytes, address: str, port: int | None) -> None:
    given = scene([(b"X-Real-IP", value)], trusted=True)
    assert given.call("kong.client.get_forwarded_ip") == address
    assert given.call("kong.client.get_forwarded_port") == port
    assert given.call("kong.client.get_ip") == "127.0.0.1"


def test_query_is_read_as_nginx_reads_it() -> None:
    given = scene(raw_query=b"a=1&=lost&&b&b=2&c=%zz+%41&%E9=%ff")
    assert given.call("kong.request.get_query") == {
        "a": "1",
        "b": [True, "2"],
        "c": "%zz A",
        "\udce9": "\udcff",
    }
    assert given.call("kong.request.get_query_arg", "b") is True


@pytest.mark.parametrize("maximum", [0, 1001, "x", True])
def test_maximum_out_of_bounds_is_refused(maximum: object) -> None:
    for name in ("kong.request.get_query", "kong.request.get_headers"):
        with pytest.raises(Refused):
            scene().call(name, maximum)


def test_at_most_a_hundred_headers_are_given() -> None:
    given = scene([(b"x-%d" % number, b"v") for number in range(150)])
    assert len(given.call("kong.request.get_headers")) == 100
    assert len(given.call("kong.request.get_headers", 120)) == 120


def test_latin_1_header_keeps_its_bytes() -> None:
    given = scene([(b"x-l", b"caf\xe9")])
    value = given.call("kong.request.get_header", "x-l")
    given.call("kong.service.request.set_header", "x-copy", value)
    assert (b"x-copy", b"caf\xe9") in given.exchange.upstream.headers


def test_header_value_cannot_end_the_header() -> None:
    given = scene()
    given.call("kong.response.set_header", "x-a", "one\r\nx-b: two")
    assert given.exchange.response.headers == [(b"x-a", b"one%0D%0Ax-b: two")]


def test_set_header_replaces_all_values_in_the_place_of_the_first() -> None:
    given = scene([(b"A", b"1"), (b"B", b"2"), (b"a", b"3")])
    given.call("kong.service.request.set_header", "a", ["x", "y"])
    assert given.exchange.upstream.headers == [(b"a", b"x"), (b"a", b"y"), (b"B", b"2")]


def test_set_headers_checks_all_before_it_sets_any() -> None:
    given = scene()
    with pytest.raises(Refused):
        given.call("kong.response.set_headers", {"x-a": "b", "x-c": {"d": "e"}})
    assert given.exchange.response.headers == []


def test_plugins_cannot_set_transfer_encoding() -> None:
    given = scene()
    given.call("kong.response.set_header", "Transfer-Encoding", "chunked")
    assert given.exchange.response.headers == []
    assert "[warn]" in given.written.getvalue()


def test_body_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b'{"a": 1}')
    given = scene([(b"Content-Type", b"application/json")], body=Body(file=path))
    assert given.call("kong.request.get_raw_body", protocol="ProtoBuf:1") == RawBody(path=str(path))
    assert given.call("kong.request.get_raw_body") is None
    assert given.call("kong.request.get_body") is None
    assert given.call("kong.request.get_body", None, None, 5) is None
    assert given.call("kong.request.get_body", None, None, 1000) == {"a": 1}


@pytest.mark.parametrize(
    ("kind", "content", "table"),
    [
        (b"application/json; charset=utf-8", b"[1]", [1]),
        (b"application/json", b"5", None),
        (b"application/json", b'["\\ud800"]', None),
        (b"application/json", b"[1" + b"0" * 400 + b", 12345678901234567890]", [float("inf"), 12345678901234567000.0]),
        (b"application/json", b"[" * 100000, None),
        (b"application/x-www-form-urlencoded", b"a=%20&b", {"a": " ", "b": True}),
        (b"multipart/form-data", b"--X", None),
        (b"multipart/form-data; boundary=X", b"no parts", {}),
        (b"text/plain", b"a", None),
    ],
)
def test_body_as_a_table(kind: bytes, content: bytes, table: object) -> None:
    given = scene([(b"content-type", kind)], body=Body(content))
    assert given.call("kong.request.get_body") == table


@pytest.mark.parametrize(
    ("mimetype", "content_type"),
    [
        ("application/json", b"application/json"),
        ("application/x-www-form-urlencoded", b"application/x-www-form-urlencoded"),
        ("multipart/form-data", b"multipart/form-data; boundary="),
    ],
)
def test_body_that_is_set_can_be_read_again(mimetype: str, content_type: bytes) -> None:
    given = scene([(b"Content-Length", b"100"), (b"Transfer-Encoding", b"chunked")])
    assert given.call("kong.service.request.set_body", {"k": "v w"}, mimetype) is True
    headers = {name.lower(): value for name, value in given.exchange.upstream.headers}
    assert headers[b"content-type"].startswith(content_type)
    assert int(headers[b"content-length"]) == len(given.exchange.upstream.body or b"")
    assert b"transfer-encoding" not in headers
    assert given.call("kong.request.get_body") == {"k": "v w"}


def test_query_is_written_in_the_order_of_names() -> None:
    given = scene()
    given.call("kong.service.request.set_query", {"b": ["x y", True], "a": 5, "c": False})
    assert given.exchange.upstream.raw_query == b"a=5&b=x%20y&b"


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("kong.service.request.set_path", ["here"]),
        ("kong.service.request.set_path", [5]),
        ("kong.service.request.set_method", ["get"]),
        ("kong.service.request.set_scheme", ["ftp"]),
        ("kong.service.request.set_query", ["a=b"]),
        ("kong.service.request.set_raw_body", [5]),
        ("kong.service.set_target", ["host", 1.5]),
        ("kong.service.set_target", ["host", float("nan")]),
        ("kong.service.set_retries", [32768]),
        ("kong.service.set_timeouts", [1, 2]),
        ("kong.service.set_tls_verify", ["on"]),
        ("kong.service.set_tls_verify_depth", [101]),
        ("kong.response.set_status", [600]),
        ("kong.response.exit", [200, True]),
        ("kong.response.exit", [200, "x", "headers"]),
        ("kong.response.error", [500, 5]),
        ("kong.response.error", [500, True]),
        ("kong.response.error", [399]),
        ("kong.response.error", [200, "fine?"]),
        ("kong.response.error", [302, "x", {"Location": "/y"}]),
        ("kong.response.error", [600]),
        ("kong.response.error", [None, "no"]),
        ("kong.client.load_consumer", [""]),
        ("kong.client.authenticate", ["alice"]),
        ("kong.ctx.shared.set", [None, 1]),
        ("kong.node.get_memory_stats", ["x"]),
        ("kong.log.set_serialize_value", ["a", "b", {"mode": "x"}]),
    ],
)
def test_wrong_argument_is_refused(method: str, args: list[Any]) -> None:
    with pytest.raises(Refused):
        scene().call(method, *args)


def test_request_line_stays_as_it_was_sent() -> None:
    given = scene(raw_query=b"a=1")
    given.call("kong.service.request.set_raw_query", "b=2")
    assert given.call("kong.request.get_path_with_query") == "/here?a=1"
    assert given.call("kong.nginx.get_var", "request_uri") == "/here?a=1"
    assert given.call("kong.request.get_raw_query") == "b=2"


def test_upstream_must_exist() -> None:
    given = scene(config=Config(upstreams_by_name={"up": Upstream("1", "up")}))
    assert given.call("kong.service.set_upstream", "other") is None
    assert given.exchange.upstream.upstream_name is None
    assert given.call("kong.service.set_upstream", "up") is True
    assert given.exchange.upstream.upstream_name == "up"
    assert given.exchange.upstream.host_header is None
    given.call("kong.service.set_target", "10.0.0.1", 80)
    assert given.exchange.upstream.upstream_name is None


def exited(given: Scene, *args: Any, protocol: str = "MsgPack:1") -> Exit:
    with pytest.raises(Exit) as raised:
        given.call("kong.response.exit", *args, protocol=protocol)
    return raised.value


def test_exit_with_a_table_is_json_unless_the_type_is_given() -> None:
    answer = exited(scene(), 200, {"a": ["é", None]})
    assert answer.body == '{"a":["é",null]}'.encode()
    assert answer.headers == [(b"Content-Type", b"application/json; charset=utf-8")]
    answer = exited(scene(), 200, {"a": 1}, {"Content-Type": "application/hal+json", "Content-Length": "99"})
    assert answer.headers == [(b"Content-Type", b"application/hal+json")]


def test_exit_without_a_body_is_empty_over_protobuf() -> None:
    assert exited(scene(), 404, protocol="ProtoBuf:1").body == b""
    assert exited(scene(), 404).body is None


def erred(given: Scene, *args: Any) -> Exit:
    with pytest.raises(Exit) as raised:
        given.call("kong.response.error", *args)
    return raised.value


@pytest.mark.parametrize("protocol", ["MsgPack:1", "ProtoBuf:1"])
@pytest.mark.parametrize(
    ("written", "sent", "body"),
    [
        ("text/plain", "text/plain; charset=UTF-8", "a & b\nrequest_id: "),
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8", "a & b\nrequest_id: "),
        (["text/plain", "text/html"], "text/plain; charset=UTF-8", "a & b\nrequest_id: "),
        ("text/html", "text/html; charset=UTF-8", "<!doctype html>"),
        ("application/xml", "application/xml", '<?xml version="1.0"'),
        ("application/json", "application/json", '{\n  "message":"a & b"'),
    ],
)
def test_the_type_among_an_error_s_headers_chooses_its_form(
    written: object, sent: str, body: str, protocol: str
) -> None:
    with pytest.raises(Exit) as raised:
        scene([(b"Accept", b"application/json")]).call(
            "kong.response.error", 403, "a & b", {"X-A": "1", "Content-Type": written}, protocol=protocol
        )
    answer = raised.value
    assert answer.body is not None
    assert answer.body.decode().startswith(body)
    assert answer.headers == [(b"Content-Type", sent.encode()), (b"X-A", b"1")]


@pytest.mark.parametrize("kind", ["application/problem+json", "TEXT/HTML", "text/html;charset=x", "text/*", "*/*", ""])
def test_an_error_of_a_type_without_a_form_fails_as_in_kong(kind: str) -> None:
    with pytest.raises(
        Refused, match=r"no form of an error for the Content-Type '.*', only for application/json; charset"
    ):
        scene().call("kong.response.error", 403, "no", {"Content-Type": kind})


def test_the_type_is_looked_up_by_its_name_as_lua_does() -> None:
    answer = erred(scene([(b"Accept", b"*/*")]), 403, "no", {"content-type": "text/plain"})
    assert answer.headers == [(b"Content-Type", b"application/json; charset=utf-8")]


@pytest.mark.parametrize("protocol", ["MsgPack:1", "ProtoBuf:1"])
@pytest.mark.parametrize(
    ("status", "number", "name"),
    [
        (400, b"3", b"InvalidArgument"),
        (401, b"16", b"Unauthenticated"),
        (403, b"7", b"PermissionDenied"),
        (404, b"5", b"NotFound"),
        (405, b"3", b"InvalidArgument"),
        (409, b"6", b"AlreadyExists"),
        (429, b"8", b"ResourceExhausted"),
        (500, b"13", b"Internal"),
        (501, b"12", b"Unimplemented"),
        (502, b"13", b"Internal"),
        (503, b"14", b"Unavailable"),
        (504, b"4", b"DeadlineExceeded"),
    ],
)
def test_an_answer_for_grpc_has_its_status(status: int, number: bytes, name: bytes, protocol: str) -> None:
    """As measured on Kong 3.9.3."""
    kind = {"Content-Type": "application/grpc"}
    expected = [(b"Content-Type", b"application/grpc"), (b"grpc-status", number), (b"grpc-message", name)]
    for function, body in (("error", b""), ("exit", b"no")):
        with pytest.raises(Exit) as raised:
            scene().call(f"kong.response.{function}", status, "no", kind, protocol=protocol)
        assert (raised.value.status, raised.value.headers, raised.value.body) == (status, expected, body)


@pytest.mark.parametrize(("status", "number", "name"), [(200, b"0", b"OK"), (302, b"2", b"Unknown")])
def test_an_exit_for_grpc_without_a_body_is_empty(status: int, number: bytes, name: bytes) -> None:
    answer = exited(scene(), status, None, {"content-type": "application/grpc+proto", "grpc-message": "mine"})
    assert answer.body == b""
    assert answer.headers == [
        (b"content-type", b"application/grpc+proto"),
        (b"grpc-message", b"mine"),
        (b"grpc-status", number),
    ]
    assert dict(exited(scene(), status, "", {"Content-Type": "application/grpc"}).headers)[b"grpc-message"] == name


def test_a_table_is_refused_as_a_body_for_grpc() -> None:
    with pytest.raises(Refused, match="body must be a nil or a string where the Content-Type is gRPC's, got table"):
        scene().call("kong.response.exit", 200, {"a": 1}, {"Content-Type": "application/grpc"})


@pytest.mark.parametrize("accept", [b"application/grpc", b"application/grpc, text/html", b"application/grpc;q=0.5"])
def test_an_error_for_a_client_that_accepts_grpc_is_empty(accept: bytes) -> None:
    answer = erred(scene([(b"Accept", accept)]), 403, "no")
    assert (answer.body, answer.headers) == (b"", [(b"Content-Type", b" ")])
    answer = erred(scene([(b"Accept", b"text/html, application/grpc")]), 403, "no")
    assert answer.headers == [(b"Content-Type", b"text/html; charset=utf-8")]


def test_a_status_loses_its_fraction() -> None:
    answer = erred(scene(), 403.5, "no")
    assert answer.status == 403
    answer = erred(scene(), 403.5)
    assert answer.body is not None
    assert b'"message":"The upstream server responded with 403"' in answer.body
    assert exited(scene(), 203.5, "no").status == 203
    for function, status in (("error", 599.5), ("error", 399.9), ("exit", 599.9), ("exit", 99.9), ("error", math.nan)):
        with pytest.raises(Refused, match=r"code must be a number between [14]00 and 599"):
            scene().call(f"kong.response.{function}", status, "no")


def test_an_error_in_xml_ends_with_a_line_break() -> None:
    answer = erred(scene([(b"Accept", b"application/xml")]), 403, "no")
    assert answer.body is not None
    assert answer.body.endswith(b"</requestid>\n</error>\n")


def test_an_invalid_length_fails_as_in_kong() -> None:
    with pytest.raises(Refused, match="failed to set header Content-Length: 'many' is no length"):
        scene().call("kong.response.exit", 200, "four", {"Content-Length": "many"})


@pytest.mark.parametrize(("given", "length"), [(4711, b"4711"), (["1", "2"], b"2")])
def test_an_answer_to_head_keeps_its_length(given: object, length: bytes) -> None:
    asked = scene()
    asked.exchange.request.method = "HEAD"
    for method, body in (("exit", None), ("exit", "four"), ("error", "no")):
        with pytest.raises(Exit) as raised:
            asked.call(f"kong.response.{method}", 403, body, {"Content-Length": given})
        assert dict(raised.value.headers)[b"Content-Length"] == length


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ([], "application/json; charset=utf-8"),
        (["json"], "application/json; charset=utf-8"),
        (["image/png"], "application/json; charset=utf-8"),
        (["text/*"], "text/plain; charset=utf-8"),
        (["application/*"], "application/json; charset=utf-8"),
        (["text/plain;q=0.3, text/html;q=0.7, text/html;level=1, */*;q=0.5"], "text/html; charset=utf-8"),
        (["text/plain;q=0.2", "text/html;q=0.9, */*;q=0.5", "application/xml;q=0.2"], "text/html; charset=utf-8"),
    ],
)
def test_an_error_without_a_type_has_the_form_that_the_client_accepts(accept: list[str], kind: str) -> None:
    answer = erred(scene([(b"Accept", value.encode()) for value in accept]), 403, "no")
    assert answer.headers == [(b"Content-Type", kind.encode())]


@pytest.mark.parametrize(
    ("message", "text"), [({"code": 7, "a": [1, None]}, '{"code":7,"a":[1,null]}'), ([1, "é"], '[1,"é"]'), ({}, "{}")]
)
def test_a_table_as_an_error_s_message_is_json_in_the_form(message: Any, text: str) -> None:
    answer = erred(scene([(b"Accept", b"application/xml")]), 400, message)
    assert answer.body is not None
    assert f"<message>{text}</message>" in answer.body.decode()


def test_error_has_the_client_s_media_type() -> None:
    given = scene([(b"Accept", b"text/plain;q=0.1, text/html")])
    with pytest.raises(Exit) as raised:
        given.call("kong.response.error", 403, "no <way>", {"x-a": "b"})
    assert raised.value.status == 403
    assert (b"x-a", b"b") in raised.value.headers
    assert dict(raised.value.headers)[b"Content-Type"].startswith(b"text/html")


def test_consumer_that_a_plugin_authenticated() -> None:
    given = scene()
    consumer = {"id": "1", "username": "alice", "tags": ["a"]}
    given.call("kong.client.authenticate", consumer, {"id": "2", "key": "k"})
    assert given.exchange.consumer == Consumer("1", "alice", tags=("a",))
    assert given.call("kong.client.get_credential") == {"id": "2", "key": "k"}
    given.call("kong.client.authenticate", None, {"id": "3"})
    assert given.call("kong.client.get_consumer") is None


def test_protocol_of_a_route() -> None:
    given = scene(PROXIED, trusted=True)
    assert given.call("kong.client.get_protocol") is None
    given.exchange.route = Route("1", "r", None, protocols=("http", "https"))
    assert given.call("kong.client.get_protocol") == "http"
    assert given.call("kong.client.get_protocol", True) == "https"
    given.exchange.route = Route("1", "r", None, protocols=("grpc",))
    assert given.call("kong.client.get_protocol") == "grpc"


def test_shared_values_last_as_long_as_the_request() -> None:
    given = scene()
    given.call("kong.ctx.shared.set", "k", {"a": [1]}, phase="rewrite")
    assert given.call("kong.ctx.shared.get", "k", phase="log") == {"a": [1]}
    given.call("kong.ctx.shared.set", "k", None)
    assert given.call("kong.ctx.shared.get", "k") is None


def test_log_lines_have_level_plugin_and_request() -> None:
    given = scene()
    given.call("kong.log.err", "m", 2, True, None)
    line = given.written.getvalue()
    assert "[error] kong: [probe] m2truenil, client: 127.0.0.1" in line
    assert 'request: "GET /here HTTP/1.1", host: "here.test"' in line


def test_serialized_log_with_values_of_plugins() -> None:
    given = scene(raw_query=b"a=1")
    exchange = given.exchange
    exchange.service, exchange.route = Service("1", "s", "up.test"), Route("2", "r", "1")
    exchange.consumer, exchange.credential = Consumer("3", "alice"), Credential("4", "3")
    exchange.service_response = ServiceResponse(201, [(b"Content-Length", b"5")])
    exchange.response.status, exchange.response.headers = 201, [(b"Content-Length", b"5")]
    exchange.upstream.path, exchange.upstream_latency = b"/up", 7
    for args in (
        ("custom.deep", 5),
        ("client_ip", "hidden"),
        ("client_ip", "added", {"mode": "add"}),
        ("nowhere", 1, {"mode": "replace"}),
        ("request.size", None),
    ):
        given.call("kong.log.set_serialize_value", *args)
    record = json.loads(given.call("kong.log.serialize", phase="log"))
    assert record["custom"] == {"deep": 5}
    assert record["client_ip"] == "hidden"
    assert "nowhere" not in record
    assert "size" not in record["request"]
    assert record["upstream_uri"] == "/up?a=1"
    assert record["latencies"]["proxy"] == 7
    assert record["authenticated_entity"] == {"id": "4"}
    assert record["source"] == "upstream"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("request_method", "GET"),
        ("uri", "/here"),
        ("args", "a=1&b=%20"),
        ("arg_b", "%20"),
        ("arg_none", None),
        ("http_host", "here.test"),
        ("remote_addr", "127.0.0.1"),
        ("request", "GET /here?a=1&b=%20 HTTP/1.1"),
        ("upstream_http_x", None),
    ],
)
def test_nginx_variables(name: str, value: str | None) -> None:
    assert scene(raw_query=b"a=1&b=%20").call("kong.nginx.get_var", name) == value


def test_memory_has_units() -> None:
    stats = scene().call("kong.node.get_memory_stats", "m", 1)
    assert stats["workers_lua_vms"][0]["http_allocated_gc"].endswith(" MiB")


def test_calls_of_several_events_run_at_once() -> None:
    """A body that is incomplete delays only its own request."""

    async def run() -> None:
        from kong_pdk.gateway.pdk import call

        arrived = asyncio.Event()
        slow, quick = scene(), scene()

        async def late() -> Body:
            await arrived.wait()
            return Body(b"late")

        slow.exchange.request.read_body = late
        waiting = asyncio.create_task(call(slow.event(), "kong.request.get_raw_body", []))
        assert await call(quick.event(), "kong.request.get_method", []) == "GET"
        assert not waiting.done()
        arrived.set()
        assert await waiting == b"late"

    asyncio.run(run())


def test_client_is_asked_for_no_certificate_and_the_log_says_so() -> None:
    given = scene()
    for name in ("request_client_certificate", "disable_session_reuse"):
        assert given.call(f"kong.client.tls.{name}", phase="certificate") is True
        assert f"kong.client.tls.{name}: the embedded gateway" in given.written.getvalue()
        with pytest.raises(Refused, match="only in: certificate"):
            given.call(f"kong.client.tls.{name}", phase="access")


def test_inspection_can_be_switched_off() -> None:
    given = scene()
    given.call("kong.log.inspect.off")
    given.call("kong.log.inspect", "hidden")
    given.call("kong.log.inspect.on")
    given.call("kong.log.inspect", "shown", {"a": 1})
    assert "hidden" not in given.written.getvalue()
    assert '"shown" {"a": 1}' in given.written.getvalue()


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("kong.response.set_raw_body", "only in: body_filter"),
        ("kong.response.get_raw_body", "cannot be called in access phase"),
        ("kong.client.tls.disable_http2_alpn", "only in: client_hello"),
        ("kong.client.tls.set_client_verify", "cannot be called in access phase"),
        ("kong.service.set_target_retry_callback", "must be a function"),
        ("kong.service.set_tls_cert_key", "must be a parsed cdata object"),
        ("kong.service.set_tls_verify_store", "X.509"),
        ("kong.vault.try", "must be a function"),
    ],
)
def test_functions_that_no_plugin_server_can_call_have_a_reason(method: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        scene().call(method, "an argument")


def test_verification_of_a_client_has_one_of_nginx_s_results() -> None:
    """Kong refuses the call in the measured phases; in other phases it would check the result."""
    verify = FUNCTIONS["kong.client.tls.set_client_verify"].run
    for verification in ("SUCCESS", "NONE", "FAILED:expired"):
        verify(scene().event(), verification)
    for verification in (True, None, "PERHAPS"):
        with pytest.raises(Refused):
            verify(scene().event(), verification)


def test_a_function_without_a_result_differs_from_one_with_nil() -> None:
    assert gives_nothing("kong.service.request.disable_tls")
    assert gives_nothing("kong.vault.flush")
    assert not gives_nothing("kong.cluster.get_id")
    assert not gives_nothing("kong.request.get_moon")
