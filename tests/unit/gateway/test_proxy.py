"""The request as the upstream gets it, and the response as the client gets it."""

from __future__ import annotations

import contextlib
import re
import socket

import pytest
from kong_pdk.gateway.exchange import Exchange, Exit
from waiting import wait_for

from .conftest import PythonPlugin, Running, Seen, Serve, Upstream, plain, read_reply

REQUEST_ID = re.compile(r"[0-9a-f]{32}")


def configuration(port: int, route: str = "", service: str = "") -> str:
    return f"""
_format_version: "3.0"
services:
- name: s
  url: http://127.0.0.1:{port}/base
  {service}
  routes:
  - name: r
    paths: [/strip]
    {route}
"""


def test_the_upstream_is_told_about_the_client(serve: Serve, upstream: Upstream) -> None:
    gateway = serve(configuration(upstream.port))
    reply = gateway.request("GET", "/strip/a?q=%2F&flag", "Host: API.example.test:8300", "X-One: 1", "Accept: */*")
    assert reply.status == 200
    seen = upstream.seen[0]
    assert seen.line == b"GET /base/a?q=%2F&flag HTTP/1.1"
    request_id = seen.value("x-kong-request-id")
    assert request_id is not None
    assert REQUEST_ID.fullmatch(request_id.decode())
    names = [(name.lower(), value) for name, value in seen.headers if name.lower() != b"host"]
    assert names == [
        (b"via", b"1.1 kong/3.9.3"),
        (b"connection", b"keep-alive"),
        (b"x-forwarded-for", b"127.0.0.1"),
        (b"x-forwarded-proto", b"http"),
        (b"x-forwarded-host", b"api.example.test"),
        (b"x-forwarded-port", str(gateway.port).encode()),
        (b"x-forwarded-path", b"/strip/a"),
        (b"x-forwarded-prefix", b"/strip"),
        (b"x-real-ip", b"127.0.0.1"),
        (b"x-kong-request-id", request_id),
        (b"x-one", b"1"),
        (b"accept", b"*/*"),
    ]
    assert seen.values("host") == [f"127.0.0.1:{upstream.port}".encode()]


def test_the_client_is_told_about_the_upstream(simple: Running, upstream: Upstream) -> None:
    upstream.answer = lambda seen, connection: connection.sendall(
        plain(b"x", "201 Created", "X-Multi: one", "X-Multi: two", "Server: up", "Keep-Alive: timeout=5")
    )
    reply = simple.request("GET", "/")
    assert reply.status == 201
    assert reply.values("x-multi") == ["one", "two"]
    assert reply.values("server") == ["up"]
    assert reply.values("via") == ["1.1 kong/3.9.3"]
    assert reply.values("keep-alive") == []
    assert re.fullmatch(r"\d+", reply.value("x-kong-upstream-latency") or "")
    assert re.fullmatch(r"\d+", reply.value("x-kong-proxy-latency") or "")
    assert [value.encode() for value in reply.values("x-kong-request-id")] == upstream.seen[0].values(
        "x-kong-request-id"
    )
    assert len(reply.values("date")) == 1


def test_bytes_of_headers_are_not_changed(simple: Running, upstream: Upstream) -> None:
    upstream.answer = lambda seen, connection: connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Back: caf\xe9 \xe2\x98\x83\r\n\r\n"
    )
    reply = simple.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-L: \xe9\r\nX-U: \xe2\x98\x83\r\nConnection: close\r\n\r\n")
    assert upstream.seen[0].values("x-l") == [b"\xe9"]
    assert upstream.seen[0].values("x-u") == [b"\xe2\x98\x83"]
    assert reply.values("x-back") == ["caf\xe9 \xe2\x98\x83"]


def test_raw_bytes_in_a_path_are_escaped_for_the_upstream(serve: Serve, upstream: Upstream) -> None:
    gateway = serve(configuration(upstream.port))
    reply = gateway.send(b"GET /strip/\xc3\xa9 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert reply.status == 200
    assert upstream.seen[0].line == b"GET /base/%C3%A9 HTTP/1.1"
    assert upstream.seen[0].value("x-forwarded-path") == b"/strip/\xc3\xa9"


def test_a_request_line_that_comes_in_two_pieces(simple: Running, upstream: Upstream) -> None:
    with simple.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"GET /\xc3")
        connection.sendall(b"\xa9 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
    assert upstream.seen[0].line == b"GET /%C3%A9 HTTP/1.1"


def test_hop_by_hop_headers_are_removed(simple: Running, upstream: Upstream) -> None:
    simple.send(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\n"
        b"Proxy-Connection: keep-alive\r\nProxy: http://evil\r\nUpgrade: h2c\r\nX-End: 1\r\n\r\n"
    )
    seen = upstream.seen[0]
    assert seen.values("connection") == [b"keep-alive"]
    for name in ("x-hop", "keep-alive", "te", "proxy-connection", "proxy", "upgrade"):
        assert seen.values(name) == []
    assert seen.values("x-end") == [b"1"]


def test_forwarded_headers_of_a_trusted_client_are_kept(serve: Serve, upstream: Upstream) -> None:
    headers = (
        "Host: in.test",
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: out.test",
        "X-Forwarded-Port: 4443",
        "X-Forwarded-Path: /ext/f",
        "X-Forwarded-Prefix: /ext",
        "X-Real-IP: 203.0.113.9",
    )
    serve(configuration(upstream.port), trusted_ips="127.0.0.0/8").request("GET", "/strip/f", *headers)
    seen = {name.lower(): value for name, value in upstream.seen[0].headers}
    assert seen[b"x-forwarded-for"] == b"203.0.113.9, 127.0.0.1"
    assert seen[b"x-forwarded-proto"] == b"https"
    assert seen[b"x-forwarded-host"] == b"out.test"
    assert seen[b"x-forwarded-port"] == b"4443"
    assert seen[b"x-forwarded-path"] == b"/ext/f"
    assert seen[b"x-forwarded-prefix"] == b"/ext"
    assert seen[b"x-real-ip"] == b"203.0.113.9"


def test_forwarded_headers_of_an_untrusted_client_are_replaced(serve: Serve, upstream: Upstream) -> None:
    headers = ("Host: in.test", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Host: out.test", "X-Real-IP: 203.0.113.9")
    serve(configuration(upstream.port)).request("GET", "/strip", *headers)
    seen = upstream.seen[0]
    assert seen.values("x-forwarded-for") == [b"203.0.113.9, 127.0.0.1"]
    assert seen.values("x-forwarded-host") == [b"in.test"]
    assert seen.values("x-real-ip") == [b"127.0.0.1"]


def test_preserve_host(serve: Serve, upstream: Upstream) -> None:
    serve(configuration(upstream.port, "preserve_host: true")).request("GET", "/strip", "Host: Own.test:81")
    assert upstream.seen[0].values("host") == [b"Own.test:81"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PURGE"])
def test_methods_are_passed_on(simple: Running, method: str) -> None:
    assert simple.request(method, "/m").json()["method"] == method


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_methods_that_nginx_refuses(simple: Running, upstream: Upstream, method: str) -> None:
    assert simple.request(method, "/m").status == 405
    assert not upstream.seen


def test_head_has_the_length_and_no_body(simple: Running, upstream: Upstream) -> None:
    upstream.answer = lambda seen, connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n")
    reply = simple.request("HEAD", "/")
    assert (reply.status, reply.value("content-length"), reply.body) == (200, "42", b"")


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_answers_that_have_no_body(simple: Running, upstream: Upstream, status: str) -> None:
    upstream.answer = lambda seen, connection: connection.sendall(f"HTTP/1.1 {status}\r\nETag: x\r\n\r\n".encode())
    with simple.connect() as connection:
        for _ in range(2):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += connection.recv(1)
            assert head.startswith(b"HTTP/1.1 " + status[:3].encode())
            assert b"transfer-encoding" not in head.lower()


def test_a_status_without_a_name(simple: Running, upstream: Upstream) -> None:
    upstream.answer = lambda seen, connection: connection.sendall(plain(b"x", "799 Odd"))
    assert simple.request("GET", "/").status == 799


def test_connections_are_kept_on_both_sides(simple: Running, upstream: Upstream) -> None:
    with simple.connect() as connection:
        for _ in range(5):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            data = b""
            while b"}" not in data:
                data += connection.recv(4096)
            assert data.startswith(b"HTTP/1.1 200")
            wait_for(lambda: simple.idle_connections == 1)
    assert (len(upstream.seen), upstream.connections) == (5, 1)


def test_pipelined_requests_are_answered_in_order(simple: Running, upstream: Upstream) -> None:
    upstream.answer = lambda seen, connection: connection.sendall(plain(seen.line.split()[1]))
    with simple.connect() as connection:
        connection.sendall(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while piece := connection.recv(4096):
            data += piece
    assert [part[-2:] for part in data.split(b"HTTP/1.1 200 OK")[1:]] == [b"/1", b"/2"]


def test_http_1_0(simple: Running, upstream: Upstream) -> None:
    upstream.answer = lambda seen, connection: connection.sendall(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    )
    reply = simple.send(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
    assert (reply.body, reply.values("transfer-encoding")) == (b"hello", [])
    assert upstream.seen[0].values("via") == [b"1.0 kong/3.9.3"]


def test_an_absolute_target_names_the_host(serve: Serve, upstream: Upstream) -> None:
    gateway = serve(configuration(upstream.port, "hosts: [abs.test]"))
    raw = b"GET http://abs.test/strip/x HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n"
    assert gateway.send(raw).json()["path"] == "/base/x"


def test_bytes_that_are_not_http_are_a_400(simple: Running) -> None:
    reply = simple.send(b"GARBAGE\r\n\r\n")
    assert reply.status == 400
    assert reply.json()["message"] == "Bad request"


def test_header_that_a_plugin_sets_goes_before_the_upstreams_of_other_names(
    simple: Running, upstream: Upstream
) -> None:
    async def access(exchange: Exchange) -> None:
        exchange.response.headers += [(b"X-Plugin", b"1"), (b"X-Up", b"plugin"), (b"", b"x"), (b"X-Bad", b"a\r\nb: c")]

    simple.use(PythonPlugin("p", {"access": access}))
    reply = simple.request("GET", "/")
    assert reply.values("x-plugin") == ["1"]
    assert reply.values("x-up") == ["yes"]
    assert reply.values("x-bad") == ["a%0D%0Ab: c"]
    assert reply.values("b") == []


def test_plugin_answers_instead_of_the_upstream(simple: Running, upstream: Upstream) -> None:
    async def access(exchange: Exchange) -> None:
        exchange.response.headers.append((b"X-Kept", b"1"))
        raise Exit(403, b"denied", [(b"X-Own", b"2")])

    sources: list[str] = []

    async def log(exchange: Exchange) -> None:
        sources.append(exchange.response.source)

    simple.use(PythonPlugin("p", {"access": access, "log": log}))
    reply = simple.request("GET", "/")
    assert (reply.status, reply.body) == (403, b"denied")
    assert (reply.value("x-kept"), reply.value("x-own")) == ("1", "2")
    assert reply.values("content-type") == []
    assert reply.value("server") == "kong/3.9.3"
    assert reply.value("content-length") == "6"
    assert not upstream.seen
    simple.loop.run(simple.gateway.stop(5))
    assert sources == ["exit"]


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (403, "text/html; charset=UTF-8", "<h1>403 Forbidden</h1>"),
        (401, "text/html; charset=UTF-8", "<h1>401 Authorization Required</h1>"),
        (404, "application/json; charset=utf-8", '"message":"Not found"'),
        (200, None, ""),
    ],
)
def test_an_exit_without_a_body_has_nginx_s_page(simple: Running, status: int, kind: str | None, body: str) -> None:
    async def access(exchange: Exchange) -> None:
        raise Exit(status, None)

    simple.use(PythonPlugin("p", {"access": access}))
    reply = simple.request("GET", "/", "Accept: */*")
    assert (reply.status, reply.value("content-type")) == (status, kind)
    assert body in reply.body.decode()


def test_a_plugin_changes_the_request(simple: Running, upstream: Upstream) -> None:
    async def access(exchange: Exchange) -> None:
        changed = exchange.upstream
        changed.method, changed.path, changed.raw_query = "PUT", b"/other", b"z=1"
        changed.headers = [(b"X-New", b"1")]
        changed.body = b"new body"
        changed.host_header = "set.test"

    simple.use(PythonPlugin("p", {"access": access}))
    simple.request("POST", "/", body=b"old")
    seen = upstream.seen[0]
    assert (seen.line, seen.body) == (b"PUT /other?z=1 HTTP/1.1", b"new body")
    assert (seen.values("x-new"), seen.values("host")) == ([b"1"], [b"set.test"])
    assert seen.values("content-length") == [b"8"]


def test_a_response_phase_sees_and_changes_the_whole_answer(simple: Running, upstream: Upstream) -> None:
    bodies: list[bytes | None] = []

    async def response(exchange: Exchange) -> None:
        assert exchange.service_response is not None
        bodies.append(exchange.service_response.body)
        exchange.response.status = 202
        exchange.response.headers.append((b"X-Late", b"1"))
        exchange.response.body = b"changed"

    def answer(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")

    upstream.answer = answer
    simple.use(PythonPlugin("p", {"response": response}))
    reply = simple.request("GET", "/")
    assert bodies == [b"abc"]
    assert (reply.status, reply.value("x-late"), reply.body) == (202, "1", b"changed")
    assert reply.values("content-length") == ["7"]


def test_an_exit_in_the_response_phase_keeps_the_upstreams_headers(simple: Running) -> None:
    async def response(exchange: Exchange) -> None:
        raise Exit(418, b"no", [])

    simple.use(PythonPlugin("p", {"response": response}))
    reply = simple.request("GET", "/")
    assert (reply.status, reply.body, reply.value("x-up")) == (418, b"no", "yes")
    assert reply.values("content-length") == ["2"]


def test_plugins_run_by_priority_then_by_name_backwards(simple: Running) -> None:
    order: list[str] = []

    def note(name: str) -> PythonPlugin:
        async def access(exchange: Exchange) -> None:
            order.append(name)

        return PythonPlugin(name, {"access": access}, priority=10 if name == "first" else 5)

    simple.use(note("a"), note("b"), note("first"))
    simple.request("GET", "/")
    assert order == ["first", "b", "a"]


def test_a_bug_is_kong_s_500_and_a_line_in_the_log(simple: Running) -> None:
    async def access(exchange: Exchange) -> None:
        raise ZeroDivisionError("oops")

    simple.use(PythonPlugin("p", {"access": access}))
    reply = simple.request("GET", "/", "Accept: */*")
    assert reply.status == 500
    assert reply.json() == {
        "message": "An unexpected error occurred",
        "request_id": reply.value("x-kong-request-id"),
    }
    assert "ZeroDivisionError: oops" in simple.errors.getvalue()


def test_the_access_log_is_nginx_s(simple: Running) -> None:
    reply = simple.request("GET", '/x?"', "User-Agent: a\tb", "Referer: there")
    simple.loop.run(simple.gateway.stop(5))
    line = simple.access_log()
    assert re.fullmatch(
        r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /x\?\\x22 HTTP/1\.1" 200 \d+ '
        r'"there" "a\\x09b" kong_request_id: "' + (reply.value("x-kong-request-id") or "?") + '"\n',
        line,
    )


@pytest.mark.parametrize(("host", "status"), [("x.test:81", 200), ("x.test:82", 404), ("x.test", 404)])
def test_a_route_for_a_host_with_a_port(serve: Serve, upstream: Upstream, host: str, status: int) -> None:
    gateway = serve(configuration(upstream.port, "hosts: ['x.test:81']"))
    assert gateway.request("GET", "/strip", f"Host: {host}").status == status


@pytest.mark.parametrize(
    ("answer", "status", "lengths", "body"),
    [
        (Exit(204, None), 204, [], b""),
        (Exit(204, b""), 204, ["0"], b""),
        (Exit(204, b"not allowed"), 204, ["11"], b""),
        (Exit(204, b"body", [(b"Content-Length", b"9")]), 204, ["9"], b""),
        (Exit(204, None, [(b"Content-Length", b"9")]), 204, ["9"], b""),
        (Exit(304, b"not allowed"), 304, ["11"], b""),
        (Exit(304, None), 304, ["0"], b""),
        (Exit(304, b"body", [(b"Content-Length", b"9")]), 304, ["9"], b""),
        (Exit(200, b""), 200, ["0"], b""),
        (Exit(100, b""), 500, ["97"], None),
    ],
)
def test_exits_that_have_no_body(
    simple: Running, answer: Exit, status: int, lengths: list[str], body: bytes | None
) -> None:
    async def access(exchange: Exchange) -> None:
        raise answer

    simple.use(PythonPlugin("p", {"access": access}))
    reply = simple.request("GET", "/", "Accept: */*")
    assert (reply.status, reply.values("content-length")) == (status, lengths)
    assert body is None or reply.body == body


@pytest.mark.parametrize(
    ("answer", "length"),
    [
        (Exit(200, b"", [(b"Content-Length", b"4711")]), "4711"),
        (Exit(200, None, [(b"content-length", b"20")]), "20"),
        (Exit(403, b"denied", [(b"Content-Length", b"99")]), "99"),
        (Exit(200, b"four"), "4"),
        (Exit(204, b"", [(b"Content-Length", b"7")]), "7"),
        (Exit(204, b"body"), "4"),
    ],
)
def test_an_answer_to_head_has_the_plugin_s_length_and_no_body(simple: Running, answer: Exit, length: str) -> None:
    async def access(exchange: Exchange) -> None:
        if exchange.request.method == "HEAD":
            raise answer
        raise Exit(200, b"next")

    simple.use(PythonPlugin("p", {"access": access}))
    with simple.connect() as connection:
        for _ in range(2):
            connection.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            reply = read_reply(connection, "HEAD")
            assert (reply.status, reply.values("content-length"), reply.body) == (answer.status, [length], b"")
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert read_reply(connection).body == b"next"


@pytest.mark.parametrize(("written", "lengths"), [(b"12345", ["12345"]), (b"x", []), (b"-1", [])])
def test_a_length_that_a_plugin_sets_on_a_proxied_answer_to_head_stays(
    simple: Running, upstream: Upstream, written: bytes, lengths: list[str]
) -> None:
    async def response(exchange: Exchange) -> None:
        exchange.response.headers = [pair for pair in exchange.response.headers if pair[0] != b"Content-Length"]
        exchange.response.headers.append((b"Content-Length", written))

    upstream.answer = lambda seen, connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    simple.use(PythonPlugin("p", {"response": response}))
    with simple.connect() as connection:
        for _ in range(2):
            connection.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            reply = read_reply(connection, "HEAD")
            assert (reply.status, reply.values("content-length"), reply.body) == (200, lengths, b"")


OWN_HEADERS = {
    "via",
    "server",
    "x-kong-upstream-status",
    "x-kong-upstream-latency",
    "x-kong-proxy-latency",
    "x-kong-response-latency",
    "x-kong-request-id",
}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("off", set()),
        ("server_tokens", {"via"}),
        ("latency_tokens", {"x-kong-upstream-latency", "x-kong-proxy-latency"}),
        ("X-Kong-Request-Id, X-Kong-Proxy-Latency", {"x-kong-request-id", "x-kong-proxy-latency"}),
        ("VIA, x-KONG-upstream-STATUS", {"via", "x-kong-upstream-status"}),
        ("X-Kong-Upstream-Latency, Server", {"x-kong-upstream-latency"}),
        ("X-Kong-Response-Latency, X-Kong-Admin-Latency", set()),
    ],
)
def test_kong_s_own_headers_can_be_left_out(serve: Serve, upstream: Upstream, setting: str, expected: set[str]) -> None:
    gateway = serve(configuration(upstream.port), headers=setting, headers_upstream=setting)
    reply = gateway.request("GET", "/strip")
    assert OWN_HEADERS & {name.lower() for name, _ in reply.headers} == expected
    request_ids = upstream.seen[0].values("x-kong-request-id")
    assert len(request_ids) == ("x-kong-request-id" in expected)


@pytest.mark.parametrize("phase", ["access", "response"])
@pytest.mark.parametrize("ends", [True, False])
def test_the_upstream_s_status_can_be_shown_for_any_response(
    serve: Serve, upstream: Upstream, phase: str, ends: bool
) -> None:
    async def run(exchange: Exchange) -> None:
        exchange.response.status = 299
        if ends:
            raise Exit(202, b"mine")

    upstream.answer = lambda seen, connection: connection.sendall(plain(b"x", "503 Down"))
    gateway = serve(configuration(upstream.port), headers="latency_tokens, X-Kong-Upstream-Status")
    gateway.use(PythonPlugin("p", {phase: run}))
    reply = gateway.request("GET", "/strip")
    names = {name.lower() for name, _ in reply.headers}
    assert not names & {"via", "server", "x-kong-request-id"}
    if phase == "access" and ends:
        assert (reply.status, names & OWN_HEADERS) == (202, {"x-kong-response-latency"})
    else:
        assert reply.values("X-Kong-Upstream-Status") == ["503"]
        assert names & OWN_HEADERS == {"x-kong-upstream-status", "x-kong-upstream-latency", "x-kong-proxy-latency"}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/caf%E9", "incomplete utf-8 byte sequence from index 4"),
        ("/%e2%82", "incomplete utf-8 byte sequence from index 1"),
        ("/%FFa", "invalid utf-8 sequence of 1 bytes from index 1"),
        ("/a%E2%82/b", "invalid utf-8 sequence of 2 bytes from index 2"),
        ("/caf\xe9/", "invalid utf-8 sequence of 1 bytes from index 4"),
    ],
)
def test_a_path_that_is_not_utf_8_has_no_route(simple: Running, upstream: Upstream, path: str, reason: str) -> None:
    reply = simple.request("GET", path, "Accept: */*")
    assert (reply.status, reply.json()["message"]) == (404, "no Route matched with those values")
    assert not upstream.seen
    assert (
        f"[error] kong: router returned an error: {reason}, 404 Not Found will be returned for"
        in simple.errors.getvalue()
    )
    assert simple.request("GET", "/caf%C3%A9").status == 200


@pytest.mark.parametrize("status", [444, 499])
def test_an_answer_that_nginx_does_not_send(simple: Running, upstream: Upstream, status: int) -> None:
    seen: list[int | None] = []

    async def access(exchange: Exchange) -> None:
        raise Exit(status, b"nobody reads this")

    async def log(exchange: Exchange) -> None:
        seen.append(exchange.response.status)

    simple.use(PythonPlugin("p", {"access": access, "log": log}))
    with simple.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(1) == b""
    wait_for(lambda: seen == [status])
    assert f'"GET / HTTP/1.1" {status} 0 "' in simple.access_log()


@pytest.mark.parametrize("kind", [None, "application/grpc", "application/grpc+proto", "application/json"])
def test_a_route_for_grpc_is_answered_as_kong_answers_http_1(serve: Serve, kind: str | None) -> None:
    gateway = serve(
        '{_format_version: "3.0", services: [{url: "grpc://127.0.0.1:1", routes: [{paths: [/g], protocols: [grpc]}]}]}'
    )
    reply = gateway.request("POST", "/g/Say", *([f"Content-Type: {kind}"] if kind else []), body=b"x")
    if kind and "grpc" in kind:
        assert (reply.status, reply.json()["message"]) == (426, "Please use HTTP2 protocol")
        assert reply.value("upgrade") == "HTTP/2"
    else:
        assert (reply.status, reply.json()["message"]) == (415, "Non-gRPC request matched gRPC route")
    assert (
        ":1: routes for grpc are not served: the embedded gateway has neither gRPC nor HTTP/2"
        in gateway.errors.getvalue()
    )


@pytest.mark.parametrize(
    ("sent", "status", "body"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 400, b"Bad request\nrequest_id: "),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, b"<html>\r\n<head><title>505 HTTP Version Not Supported</title>"),
    ],
)
def test_another_version_of_http_is_refused_as_nginx_does(
    simple: Running, upstream: Upstream, sent: bytes, status: int, body: bytes
) -> None:
    with simple.connect() as connection:
        connection.sendall(sent)
        reply = read_reply(connection)
        assert reply.status == status
        assert reply.body.startswith(body)
        assert reply.value("connection") == "close"
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) == b""
    assert not upstream.seen
    assert "[notice] kong: HTTP/2 is not served: the embedded gateway speaks only HTTP/1.1" in simple.errors.getvalue()
