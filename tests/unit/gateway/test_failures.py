"""Upstreams that cannot be reached or misbehave: the client's response, and when the gateway retries."""

from __future__ import annotations

import collections
import socket
import threading

import pytest
from kong_pdk.gateway.exchange import Exchange
from waiting import DEADLINE

from .conftest import PythonPlugin, Running, Seen, Serve, Upstream, plain

REFUSED = 1  # tcpmux: no server listens there, and an unprivileged process cannot.


def service(address: str, more: str = "") -> str:
    return f"""
_format_version: "3.0"
services:
- name: s
  url: http://{address}/
  {more}
  routes:
  - name: r
    paths: [/]
"""


def balanced(*targets: str) -> str:
    listed = "".join(f"\n  - {target}" for target in targets)
    return service("balanced") + f"upstreams:\n- name: balanced\n  targets:{listed or ' []'}\n"


def message(reply_json: dict[str, str]) -> str:
    return reply_json["message"]


def test_a_closed_port(serve: Serve) -> None:
    gateway = serve(service(f"127.0.0.1:{REFUSED}"))
    reply = gateway.request("GET", "/", "Accept: */*")
    assert reply.status == 502
    assert message(reply.json()) == "An invalid response was received from the upstream server"
    assert reply.json()["request_id"] == reply.value("x-kong-request-id")
    # The first try and five retries, the default of "retries".
    assert gateway.errors.getvalue().count(f"127.0.0.1:{REFUSED}") == 6


def test_an_unknown_name(serve: Serve) -> None:
    reply = serve(service("no-such-host.invalid", "retries: 0")).request("GET", "/", "Accept: */*")
    assert (reply.status, message(reply.json())) == (503, "name resolution failed")


@pytest.mark.parametrize("targets", [[], ["{target: '127.0.0.1:1', weight: 0}"]])
def test_an_upstream_without_targets(serve: Serve, targets: list[str]) -> None:
    reply = serve(balanced(*targets)).request("GET", "/")
    assert (reply.status, message(reply.json())) == (503, "failure to get a peer from the ring-balancer")


def test_the_next_target_is_tried(serve: Serve, upstream: Upstream) -> None:
    gateway = serve(balanced(f"target: 127.0.0.1:{REFUSED}", f"target: 127.0.0.1:{upstream.port}"))
    for _ in range(4):
        assert gateway.request("POST", "/", body=b"abc").status == 200
    assert [seen.body for seen in upstream.seen] == [b"abc"] * 4


def test_a_time_out(serve: Serve, upstream: Upstream) -> None:
    hold = threading.Event()

    def answer(seen: Seen, connection: socket.socket) -> None:
        assert hold.wait(DEADLINE)

    upstream.answer = answer
    gateway = serve(service(f"127.0.0.1:{upstream.port}", "read_timeout: 100\n  retries: 1"))
    reply = gateway.request("GET", "/", "Accept: */*")
    hold.set()
    assert (reply.status, message(reply.json())) == (504, "The upstream server is timing out")
    assert len(upstream.seen) == 2


@pytest.mark.parametrize(("method", "tries"), [("GET", 3), ("PURGE", 3), ("POST", 1), ("PATCH", 1), ("LOCK", 1)])
def test_what_nginx_repeats_is_sent_again(serve: Serve, upstream: Upstream, method: str, tries: int) -> None:
    upstream.answer = lambda seen, connection: connection.shutdown(socket.SHUT_RDWR)
    reply = serve(service(f"127.0.0.1:{upstream.port}", "retries: 2")).request(method, "/")
    assert (reply.status, len(upstream.seen)) == (502, tries)


@pytest.mark.parametrize("method", ["get", "G%41", "G\xc3", "G.T", "G/T", "1"])
def test_a_method_that_nginx_refuses(simple: Running, method: str) -> None:
    assert simple.request(method, "/").status == 400


@pytest.mark.parametrize(("query", "sent"), [("?\xff=\xc3\xa4", "?%FF=%C3%A4"), ("?a%-41", "?a%-41")])
def test_a_query_with_any_bytes(simple: Running, upstream: Upstream, query: str, sent: str) -> None:
    reply = simple.request("GET", f"/{query}")
    assert (reply.status, reply.json()["path"]) == (200, f"/{sent}")
    assert "Traceback" not in simple.errors.getvalue()


def test_an_answer_that_is_not_http(simple: Running, upstream: Upstream) -> None:
    upstream.answer = lambda seen, connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")
    assert simple.request("POST", "/").status == 502


def test_an_idle_connection_that_the_upstream_has_closed_is_not_used(simple: Running, upstream: Upstream) -> None:
    closed = threading.Event()

    def answer(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(plain(b"ok"))
        connection.shutdown(socket.SHUT_WR)
        closed.set()

    upstream.answer = answer
    for _ in range(3):
        closed.clear()
        assert simple.request("POST", "/").status == 200
        assert closed.wait(DEADLINE)


@pytest.mark.parametrize(
    ("accept", "kind", "start"),
    [
        ("application/json", "application/json; charset=utf-8", '{\n  "message":"An invalid response'),
        ("text/html;q=0.9, text/plain;q=0.1", "text/html; charset=utf-8", "<!doctype html>"),
        ("application/xml", "application/xml; charset=utf-8", '<?xml version="1.0" encoding="UTF-8"?>\n<error>'),
        ("text/plain", "text/plain; charset=utf-8", "An invalid response was received"),
        ("image/png", "application/json; charset=utf-8", "{"),
        (None, "text/plain; charset=utf-8", "An invalid response was received"),
    ],
)
def test_error_pages_have_a_type_that_the_client_accepts(
    serve: Serve, accept: str | None, kind: str, start: str
) -> None:
    gateway = serve(service(f"127.0.0.1:{REFUSED}", "retries: 0"))
    reply = gateway.request("GET", "/", *([f"Accept: {accept}"] if accept else []))
    assert reply.value("content-type") == kind
    assert reply.body.decode().startswith(start)
    assert (reply.value("x-kong-request-id") or "?") in reply.body.decode()


def test_no_route(serve: Serve) -> None:
    reply = serve('_format_version: "3.0"\n').request("GET", "/nosuchroute", "Accept: */*")
    request_id = reply.value("x-kong-request-id")
    assert reply.status == 404
    assert reply.body.decode() == (
        f'{{\n  "message":"no Route matched with those values",\n  "request_id":"{request_id}"\n}}'
    )


def test_a_route_without_a_service(serve: Serve) -> None:
    reply = serve('_format_version: "3.0"\nroutes:\n- paths: [/]\n').request("GET", "/")
    assert (reply.status, message(reply.json())) == (503, "no Service found with those values")


def https_only(status: int) -> str:
    return f"""
_format_version: "3.0"
routes:
- paths: [/]
  protocols: [https]
  https_redirect_status_code: {status}
"""


def test_https_only(serve: Serve) -> None:
    reply = serve(https_only(426)).request("GET", "/")
    assert (reply.status, message(reply.json())) == (426, "Please use HTTPS protocol")
    assert reply.value("upgrade") == "TLS/1.2, HTTP/1.1"


def test_https_only_by_redirect(serve: Serve) -> None:
    reply = serve(https_only(308)).request("GET", "/a?b=c", "Host: x.test:80")
    assert (reply.status, reply.value("location")) == (308, "https://x.test/a?b=c")


def test_https_at_a_trusted_proxy_is_https(serve: Serve) -> None:
    reply = serve(https_only(426), trusted_ips="127.0.0.1").request("GET", "/", "X-Forwarded-Proto: https")
    assert reply.status == 503


def test_targets_take_turns_by_weight(serve: Serve, upstream: Upstream) -> None:
    gateway = serve(
        balanced(
            f"{{target: '127.0.0.1:{upstream.port}', weight: 300}}",
            f"{{target: 'localhost:{upstream.port}', weight: 100}}",
        )
    )
    for _ in range(8):
        gateway.request("GET", "/")
    hosts = collections.Counter(seen.value("host") for seen in upstream.seen)
    assert hosts == {f"127.0.0.1:{upstream.port}".encode(): 6, f"localhost:{upstream.port}".encode(): 2}


def test_tries_are_in_the_log(serve: Serve, upstream: Upstream) -> None:
    tries: list[list[dict[str, object]]] = []
    noted = threading.Event()

    async def log(exchange: Exchange) -> None:
        tries.append(exchange.tries)
        noted.set()

    gateway = serve(balanced(f"target: 127.0.0.1:{REFUSED}", f"target: 127.0.0.1:{upstream.port}"))
    gateway.use(PythonPlugin("p", {"log": log}))
    gateway.request("GET", "/")
    assert noted.wait(DEADLINE)
    assert [(each["port"], each.get("state")) for each in tries[0]] == [(REFUSED, "failed"), (upstream.port, None)]


def test_a_header_that_cannot_be_sent_is_a_500(simple: Running, upstream: Upstream) -> None:
    async def access(exchange: Exchange) -> None:
        exchange.upstream.headers.append((b"X Y", b"1"))

    simple.use(PythonPlugin("p", {"access": access}))
    assert simple.request("GET", "/").status == 500
    assert not upstream.seen
