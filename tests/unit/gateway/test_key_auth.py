"""key-auth as in Kong: valid credentials, the headers for the upstream, the response for the client."""

from __future__ import annotations

import pytest

from .conftest import Running, Serve, Upstream

KEYED = """
_format_version: "3.0"
consumers:
- username: alice
  custom_id: alice-id
  id: 3bbb2a3e-0000-4000-8000-0000000000a1
  keyauth_credentials:
  - key: alice-key
    id: 3bbb2a3e-0000-4000-8000-0000000000c1
- username: nobody
services:
- url: http://127.0.0.1:%d
  routes:
  - paths: [/keyed]
    strip_path: false
    plugins:
    - name: key-auth
      config: {%s}
"""


@pytest.fixture
def keyed(serve: Serve, upstream: Upstream) -> Running:
    return serve(KEYED % (upstream.port, ""))


def test_a_known_key(keyed: Running, upstream: Upstream) -> None:
    reply = keyed.request("GET", "/keyed", "apikey: alice-key", "X-Anonymous-Consumer: true")
    assert reply.status == 200
    seen = upstream.seen[0]
    assert seen.values("x-consumer-id") == [b"3bbb2a3e-0000-4000-8000-0000000000a1"]
    assert seen.values("x-consumer-custom-id") == [b"alice-id"]
    assert seen.values("x-consumer-username") == [b"alice"]
    assert seen.values("x-credential-identifier") == [b"3bbb2a3e-0000-4000-8000-0000000000c1"]
    assert seen.values("apikey") == [b"alice-key"]
    assert seen.values("x-anonymous-consumer") == []


def test_a_key_in_the_query(keyed: Running) -> None:
    assert keyed.request("GET", "/keyed?a=1&apikey=alice-key").status == 200


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ([], "No API key found in request"),
        (["apikey: wrong"], "Unauthorized"),
        (["apikey: alice-key", "apikey: alice-key"], "Duplicate API key found"),
    ],
)
def test_missing_and_unknown_keys(keyed: Running, upstream: Upstream, headers: list[str], message: str) -> None:
    reply = keyed.request("GET", "/keyed", *headers)
    assert (reply.status, reply.json()["message"]) == (401, message)
    assert reply.value("www-authenticate") == "Key"
    assert not upstream.seen


def test_a_realm(serve: Serve, upstream: Upstream) -> None:
    reply = serve(KEYED % (upstream.port, "realm: mine")).request("GET", "/keyed")
    assert reply.value("www-authenticate") == 'Key realm="mine"'


def test_hidden_credentials(serve: Serve, upstream: Upstream) -> None:
    gateway = serve(KEYED % (upstream.port, "hide_credentials: true"))
    gateway.request("GET", "/keyed?a=1&apikey=alice-key&b=%20")
    gateway.request("GET", "/keyed", "apikey: alice-key")
    assert upstream.seen[0].line == b"GET /keyed?a=1&b=%20 HTTP/1.1"
    assert upstream.seen[1].values("apikey") == []


def test_an_anonymous_consumer(serve: Serve, upstream: Upstream) -> None:
    gateway = serve(KEYED % (upstream.port, "anonymous: nobody"))
    assert gateway.request("GET", "/keyed", "X-Credential-Identifier: forged").status == 200
    seen = upstream.seen[0]
    assert (seen.values("x-consumer-username"), seen.values("x-anonymous-consumer")) == ([b"nobody"], [b"true"])
    assert seen.values("x-credential-identifier") == []


def test_a_missing_anonymous_consumer(serve: Serve, upstream: Upstream) -> None:
    assert serve(KEYED % (upstream.port, "anonymous: ghost")).request("GET", "/keyed").status == 500


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", b"a=1&apikey=alice-key"),
        ("application/json", b'{"apikey": "alice-key"}'),
    ],
)
def test_a_key_in_the_body(serve: Serve, upstream: Upstream, kind: str, body: bytes) -> None:
    gateway = serve(KEYED % (upstream.port, "key_in_body: true"))
    assert gateway.request("POST", "/keyed", f"Content-Type: {kind}", body=body).status == 200
    assert upstream.seen[0].body == body


@pytest.mark.parametrize("body", [b"not json", b"[1]", b'{"apikey": 5}', b"x" * 10_000])
def test_a_body_without_a_key(serve: Serve, upstream: Upstream, body: bytes) -> None:
    gateway = serve(KEYED % (upstream.port, "key_in_body: true"))
    assert gateway.request("POST", "/keyed", "Content-Type: application/json", body=body).status == 401


def test_preflight_requests_may_pass(serve: Serve, upstream: Upstream) -> None:
    gateway = serve(KEYED % (upstream.port, "run_on_preflight: false"))
    assert (gateway.request("OPTIONS", "/keyed").status, gateway.request("GET", "/keyed").status) == (200, 401)
