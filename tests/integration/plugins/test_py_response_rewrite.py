"""``py-response-rewrite``: JSON responses are rewritten or refused, never passed on damaged."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from typing import Any

import pytest
from integration.plugins.conftest import Gateway, Snippet
from integration.plugins.nodes import PLUGINS, UPSTREAM_URL, Node
from kong_pdk.plugin import Source, load
from kong_pdk.schema.config_values import validate_config
from local_servers import Answer, free_port
from replies import Reply

NAME = "py-response-rewrite"
PAGE = f"docs/plugins/{NAME}.md"
JSON = ("Content-Type", "application/json")
MOST = 2000

RULES: list[dict[str, Any]] = [
    {"action": "remove", "path": "$..secret"},
    {"action": "remove", "path": "$.list[?@.hidden == true]"},
    {"action": "remove", "path": "$.prices[?@ > 1.1]"},
    {"action": "mask", "path": "$.card", "keep_last": 4},
    {"action": "mask", "path": "$.token", "mask": "gone"},
    {"action": "set", "path": "$.items[*].source", "value": "shop"},
    {"action": "set", "path": "$.limits", "json": '{"daily": [1.50, null, false]}'},
    {"action": "set", "path": "$.limits.daily[0]", "json": "2"},
    {"action": "rename", "path": "$.user.uname", "name": "username"},
]
HEADERS = {
    "remove": ["X-Internal"],
    "set": {"Server": "shop", "X-Frame-Options": "DENY"},
    "add": {"Vary": "Accept-Language"},
}


PASSES = {f"on_{reason}": "pass" for reason in ("too_large", "unreadable", "unbuffered")}
STRICT, DRESSED, LENIENT, CLOSED = "/strict", "/dressed", "/lenient", "/closed"


def service(name: str, url: str, routes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A service with the plugin on each route; a route's path is not sent to the service."""
    plugins = {path: {"name": NAME, "config": {"max_body_bytes": MOST, **config}} for path, config in routes.items()}
    return {
        "name": name,
        "url": url,
        "routes": [{"name": path[1:], "paths": [path], "plugins": [plugin]} for path, plugin in plugins.items()],
    }


@pytest.fixture(scope="module")
def configuration() -> str:
    """A route for each way to use the plugin: one start of the gateway serves all tests.

    STRICT refuses what it cannot rewrite, LENIENT passes it on, DRESSED has HEADERS and some statuses alone, and the
    service of CLOSED cannot be reached.
    """
    served = {
        STRICT: {"rules": RULES},
        DRESSED: {"rules": RULES, "headers": HEADERS, "statuses": ["200-299", "404"]},
        LENIENT: {"rules": RULES, **PASSES},
    }
    closed = {CLOSED: {"rules": [{"action": "remove", "path": "$.message"}]}}
    services = [service("shop", UPSTREAM_URL, served), service("none", f"http://127.0.0.1:{free_port()}", closed)]
    return json.dumps({"_format_version": "3.0", "services": services})


@pytest.fixture
def node(gateway: Gateway, configuration: str) -> Node:
    return gateway(NAME, configuration=configuration)


def answering(
    node: Node,
    body: bytes | str,
    *headers: tuple[str, str],
    status: int = 200,
    method: str = "GET",
    path: str = STRICT,
) -> Reply:
    """Set the service's answer and send a request."""
    content = body.encode() if isinstance(body, str) else body
    given = headers if any(name == "Content-Type" for name, _ in headers) else (JSON, *headers)
    node.service.answer = lambda received: Answer(status, given, content)
    return node.request(method, path)


def assert_refused(node: Node, reply: Reply, why: str) -> None:
    """The client gets a 502 without any part of the service's answer."""
    assert (reply.status, json.loads(reply.body)) == (502, {"message": "The response cannot be rewritten"})
    assert reply.value("cache-control") == "no-store"
    assert reply.value("content-type") == "application/json; charset=utf-8"
    for name in ("content-encoding", "etag", "last-modified", "digest"):
        assert reply.value(name) is None
    assert node.wait_for_line("the response is refused", why)


def test_the_page_shows_the_result(default_gateway: Gateway, snippet: Snippet) -> None:
    node = default_gateway(NAME, configuration=snippet(PAGE, NAME))
    customer = {"id": 7, "uname": "ada", "password": "hunter2", "card": "4111111111111111"}
    node.service.answer = lambda received: Answer(200, (JSON, ("X-Powered-By", "old")), json.dumps(customer).encode())

    reply = node.request("GET", "/customers/7")

    assert json.loads(reply.body) == {"id": 7, "username": "ada", "card": "****1111", "api": {"version": 2}}
    assert reply.value("x-powered-by") is None
    assert reply.value("cache-control") == "no-store"


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"secret": 1, "a": [{"secret": {"secret": 2}}, {"b": 3}]}, {"a": [{}, {"b": 3}]}),
        ({"list": [{"hidden": True}, 1, {"hidden": False}, {"hidden": True}]}, {"list": [1, {"hidden": False}]}),
        ({"prices": [1, 1.2, 2, 1.1, "3"]}, {"prices": [1, 1.1, "3"]}),
        ({"card": "4111111111111111"}, {"card": "****1111"}),
        ({"card": 4111111111111111}, {"card": "****1111"}),
        ({"card": "1234567"}, {"card": "****"}),
        ({"card": ["4111111111111111"]}, {"card": "****"}),
        ({"card": None, "token": True}, {"card": "****", "token": "gone"}),
        ({"items": [{}, {"source": 1}, 5]}, {"items": [{"source": "shop"}, {"source": "shop"}, 5]}),
        ({"user": {"uname": "ada", "id": 1}}, {"user": {"username": "ada", "id": 1}}),
        ({"user": {"uname": "ada", "username": "old"}}, {"user": {"username": "ada"}}),
        ({"user": [{"uname": "ada"}]}, {"user": [{"uname": "ada"}]}),
    ],
)
def test_rules(node: Node, document: dict[str, Any], expected: dict[str, Any]) -> None:
    for _ in range(2):  # a rule must not have changed itself
        reply = answering(node, json.dumps(document))

        assert reply.status == 200
        assert json.loads(reply.body) == {**expected, "limits": {"daily": [2, None, False]}}
        assert reply.value("content-length") == str(len(reply.body))


def test_members_keep_their_order(node: Node) -> None:
    reply = answering(node, '{"user":{"a":1,"uname":"ada","z":2},"limits":0,"last":3}')

    assert reply.body == b'{"user":{"a":1,"username":"ada","z":2},"limits":{"daily":[2,null,false]},"last":3}'


def test_values_without_a_rule_are_kept_exactly(node: Node) -> None:
    """Numbers beyond a float, their zeros, and text that UTF-8 cannot carry stay as the service wrote them."""
    kept = '"n":[1.10,-0.0,1E+400,123456789012345678901234567890],"t":"caf\u00e9","half":"\\ud83d"'
    reply = answering(node, f'{{{kept},"token":1}}')

    expected = kept.replace("\u00e9", "\\u00e9") + ',"token":"gone","limits":{"daily":[2,null,false]}'
    assert reply.body.decode() == f"{{{expected}}}"
    plain = answering(node, '{"t":"caf\u00e9"}').body
    assert plain.startswith('{"t":"caf\u00e9"'.encode())


@pytest.mark.parametrize("body", ["[ 1, 2 ]\n", '"{\\"secret\\": 1}"', "7", "null", "[]", ""])
def test_without_a_match_the_bytes_are_unchanged(node: Node, body: str) -> None:
    reply = answering(node, body)

    assert (reply.status, reply.body) == (200, body.encode())
    assert node.trouble() == []


@pytest.mark.parametrize(
    ("media_type", "rewritten"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/problem+json", True),
        ("text/plain, application/json", True),
        ("application/json;;", True),
        ("text/plain", False),
        ("application/jsonp", False),
    ],
)
def test_media_types(node: Node, media_type: str, rewritten: bool) -> None:
    reply = answering(node, '{"token":1}', ("Content-Type", media_type))

    assert (b"gone" in reply.body) == rewritten
    assert reply.value("content-type") == media_type


def test_statuses(node: Node) -> None:
    for status, rewritten in ((200, True), (299, True), (404, True), (403, False), (500, False)):
        reply = answering(node, '{"token":1}', status=status, path=DRESSED)

        assert reply.status == status
        assert (b"gone" in reply.body) == rewritten
        assert (reply.value("x-frame-options") == "DENY") == rewritten


@pytest.mark.parametrize("media_type", ["application/json", "text/plain"])
def test_headers(node: Node, media_type: str) -> None:
    reply = answering(
        node, '{"token":1}', ("Content-Type", media_type), ("X-Internal", "1"), ("X-Internal", "2"),
        ("Vary", "Origin"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), status=201, path=DRESSED,
    )  # fmt: skip

    assert (reply.status, b"gone" in reply.body) == (201, media_type == "application/json")
    assert reply.values("x-internal") == []
    assert reply.values("server") == ["shop"]
    assert reply.values("vary") == ["Origin", "Accept-Language"]
    assert reply.values("set-cookie") == ["a=1", "b=2"]
    assert reply.value("content-type") == media_type


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


CODINGS: Mapping[str, tuple[str, Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress, gzip.decompress),
    "its old name": ("x-gzip", gzip.compress, gzip.decompress),
    "two members": ("gzip", lambda body: gzip.compress(body[:5]) + gzip.compress(body[5:]), gzip.decompress),
    "deflate": ("deflate", zlib.compress, zlib.decompress),
    "raw deflate": ("deflate", raw_deflate, zlib.decompress),
    "identity": ("identity", bytes, bytes),
}


@pytest.mark.parametrize("coding", CODINGS)
def test_a_compressed_body_stays_compressed(node: Node, coding: str) -> None:
    name, compress, decompress = CODINGS[coding]
    reply = answering(node, compress(b'{"token": 1}'), ("Content-Encoding", name))

    assert (reply.status, reply.value("content-encoding")) == (200, name)
    assert json.loads(decompress(reply.body))["token"] == "gone"
    assert reply.value("content-length") == str(len(reply.body))


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", "ISO-8859-1", "windows-1252", "utf-16"])
def test_charsets(node: Node, charset: str) -> None:
    body = '{"token":1,"t":"caf\u00e9"}'.encode(charset)
    reply = answering(node, body, ("Content-Type", f"application/json; charset={charset}; v=1"))

    header = Message()
    header["content-type"] = reply.value("content-type")
    assert json.loads(reply.body.decode())["t"] == "caf\u00e9"
    assert dict(header.get_params([])) == {
        "application/json": "",
        "charset": charset if charset.lower().startswith("utf") and "8" in charset else "utf-8",
        "v": "1",
    }


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-be"])
def test_a_charset_that_is_not_named(node: Node, encoding: str) -> None:
    reply = answering(node, '{"token":1}'.encode(encoding))

    assert json.loads(reply.body.decode())["token"] == "gone"


UNREADABLE: Mapping[str, tuple[bytes, tuple[tuple[str, str], ...], str]] = {
    "no JSON": (b"{'a': 1}", (), "it is not JSON"),
    "cut off": (b'{"a": 1', (), "it is not JSON"),
    "NaN": (b'{"a": NaN}', (), "it is not JSON"),
    "two documents": (b"{} {}", (), "it is not JSON"),
    "an exponent without bounds": (b'{"a": 1E' + b"9" * 30 + b"}", (), "it is not JSON"),
    "not UTF-8": (b'{"a": "\xff"}', (), "it is not text in the charset"),
    "nested too deep": (b"[" * 999 + b"]" * 999, (), "it is nested too deep"),
    "nested too deep for ..": (b'{"a":' * 200 + b"1" + b"}" * 200, (), "it is nested too deep"),
    "an unknown coding": (b"\x0b\x02\x80{}\x03", (("Content-Encoding", "br"),), "its content coding 'br' is not known"),
    "two codings": (b"{}", (("Content-Encoding", "gzip, br"),), "is not known"),
    "no gzip": (b"{}", (("Content-Encoding", "gzip"),), "it cannot be decompressed"),
    "gzip that is cut off": (gzip.compress(b'{"a": 1}')[:-4], (("Content-Encoding", "gzip"),), "it is cut off"),
    "an unknown charset": (b"{}", (("Content-Type", "application/json; charset=klingon"),), "klingon"),
    "a charset that is none": (b"{}", (("Content-Type", "application/json; charset=zip"),), "its charset zip"),
}
TOO_LARGE: Mapping[str, tuple[bytes, tuple[tuple[str, str], ...], str]] = {
    "one byte too long": (b'"' + b"a" * (MOST - 1) + b'"', (), f"it has more than {MOST} bytes"),
    "a bomb": (gzip.compress(b" " * 10_000_000)[:MOST], (("Content-Encoding", "gzip"),), "when it is decompressed"),
    "many members": (gzip.compress(b"1" * 30) * 80, (("Content-Encoding", "gzip"),), "more than"),
}
VALIDATORS = (("ETag", '"1"'), ("Last-Modified", "Mon, 23 Nov 2026 06:02:00 GMT"), ("Digest", "md5=x"))


@pytest.mark.parametrize("case", [*UNREADABLE, *TOO_LARGE])
def test_responses_that_cannot_be_rewritten_are_refused(node: Node, case: str) -> None:
    body, headers, why = {**UNREADABLE, **TOO_LARGE}[case]
    reply = answering(node, body, *headers, ("Cache-Control", "max-age=600"), *VALIDATORS)

    assert_refused(node, reply, why)


@pytest.mark.parametrize("case", [*UNREADABLE, *TOO_LARGE])
def test_responses_that_cannot_be_rewritten_can_pass(node: Node, case: str) -> None:
    body, headers, why = {**UNREADABLE, **TOO_LARGE}[case]
    reply = answering(node, body, *headers, path=LENIENT)

    assert (reply.status, reply.body) == (200, body)
    assert reply.value("content-encoding") == dict(headers).get("Content-Encoding")
    assert node.wait_for_line("passed on as it is", why)


def test_a_body_of_exactly_the_limit(node: Node) -> None:
    body = b'{"token":"' + b"a" * (MOST - 12) + b'"}'
    assert len(body) == MOST

    for sent, headers in ((body, ()), (gzip.compress(body), (("Content-Encoding", "gzip"),))):
        assert answering(node, sent, *headers).status == 200


@pytest.mark.parametrize(("tag", "sent"), [('"abc"', 'W/"abc"'), ('W/"abc"', 'W/"abc"')])
def test_validators_of_other_bytes_are_removed(node: Node, tag: str, sent: str) -> None:
    reply = answering(node, '{"token":1}', ("ETag", tag), ("Accept-Ranges", "bytes"), ("Content-Digest", "sha-256=:x:"))

    assert reply.value("etag") == sent
    assert reply.value("accept-ranges") is None
    assert reply.value("content-digest") is None


def test_head(node: Node) -> None:
    """HEAD has the headers of GET, without the length and the digest of another body."""
    reply = answering(node, '{"token":1}', ("ETag", '"1"'), ("Digest", "md5=x"), method="HEAD")

    assert (reply.status, reply.body) == (200, b"")
    assert reply.value("etag") == 'W/"1"'
    assert reply.value("digest") is None
    assert reply.value("content-length") != "11"


def test_not_modified(node: Node) -> None:
    reply = answering(node, "", ("ETag", '"1"'), status=304)

    assert (reply.status, reply.value("etag")) == (304, 'W/"1"')


@pytest.mark.parametrize(
    ("accepted", "asked"),
    [
        ("gzip, br, zstd", "gzip"),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", "gzip;q=0.8"),
        ("deflate, identity;q=0", "deflate, identity;q=0"),
        ("br", "identity"),
        (None, "identity"),
    ],
)
def test_the_service_is_asked_for_a_body_that_can_be_rewritten(node: Node, accepted: str | None, asked: str) -> None:
    headers = [("Accept-Encoding", accepted)] if accepted else []
    node.request("GET", STRICT, [*headers, ("Range", "bytes=0-4"), ("If-Range", '"1"')])

    [received] = node.service.received
    assert received.values("accept-encoding") == [asked]
    assert received.value("range") is None
    assert received.value("if-range") is None


def test_an_upgrade_is_refused(node: Node) -> None:
    """Kong streams the answer to a WebSocket request, and calls no response handler."""
    asked = [("Connection", "Upgrade"), ("Upgrade", "WebSocket")]
    assert node.request("GET", STRICT, asked).status == 400
    assert node.service.received == []
    assert node.request("GET", STRICT, [("Upgrade", "h2c")]).status == 200
    assert node.request("GET", LENIENT, [("Upgrade", "websocket")]).status == 200


class Http2:
    """Kong's API in the access handler of an HTTP/2 request."""

    def __init__(self) -> None:
        self.request = self.response = self
        self.exits: list[int] = []

    def get_http_version(self) -> float:
        return 2.0

    def get_header(self, name: str) -> None:
        return None

    def exit(self, status: int, body: object) -> None:
        self.exits.append(status)


def plugin(**given: Any) -> Any:
    cls = load(Source(NAME, PLUGINS / NAME / "plugin.py")).cls
    refuses = dict.fromkeys(PASSES, "refuse")
    return cls({"content_types": ["application/json"], "max_body_bytes": MOST, **refuses, **given})


def test_http_2_is_refused() -> None:
    """Kong 3.9 calls no response handler for HTTP/2 requests."""
    kong, lenient = Http2(), Http2()
    plugin().access(kong)
    plugin(on_unbuffered="pass").access(lenient)

    assert (kong.exits, lenient.exits) == ([505], [])


def test_answers_of_kong_itself_are_not_rewritten(node: Node) -> None:
    reply = node.request("GET", CLOSED, [("Accept", "application/json")])

    assert reply.status == 502
    assert json.loads(reply.body)["message"] == "An invalid response was received from the upstream server"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"action": "remove", "path": "$.a["}, "rule 1 (remove $.a[): the path is not JSONPath as RFC 9535 has it: "),
        ({"action": "mask", "path": "$"}, "names the body as a whole"),
        ({"action": "set", "path": "$.a"}, 'give either a "value", which is text, or "json"'),
        ({"action": "set", "path": "$.a", "value": "1", "json": "1"}, 'give either a "value"'),
        ({"action": "set", "path": "$.a", "json": "{a}"}, '"json" is not JSON'),
        ({"action": "rename", "path": "$.a"}, 'give the new "name"'),
    ],
)
def test_an_invalid_rule(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        plugin(rules=[rule])

    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("headers", [{"remove": ["Content-Length"]}, {"set": {"content-encoding": "gzip"}}])
def test_headers_that_must_not_be_rewritten(headers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="belongs to the form of the response"):
        plugin(headers=headers)


def test_requests_at_once(node: Node) -> None:
    """Handlers of one instance run at the same time: each has its own response."""
    node.service.answer = lambda received: Answer(
        200, (JSON,), json.dumps({"path": received.path, "token": 1}).encode()
    )
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda number: node.request("GET", f"{STRICT}/{number}"), range(40)))

    assert [json.loads(reply.body)["path"] for reply in replies] == [f"/{number}" for number in range(40)]
    assert all(json.loads(reply.body)["token"] == "gone" for reply in replies)


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        ({"statuses": ["2xx"]}, {"statuses": {1: "expected a status, 404, or a range, 400-499"}}),
        (
            {"rules": [{"action": "hide", "path": "$.a"}]},
            {"rules": {1: {"action": "expected one of: remove, mask, set, rename"}}},
        ),
        ({"rules": [{"action": "remove", "path": "a"}]}, {"rules": {1: {"path": "should start with: $"}}}),
        ({"headers": {"remove": ["a b"]}}, {"headers": {"remove": {1: "invalid value: a b"}}}),
    ],
)
def test_invalid_configurations(given: dict[str, Any], errors: dict[str, Any]) -> None:
    _, found = validate_config(load(Source(NAME, PLUGINS / NAME / "plugin.py")).schema, given)

    assert found == errors
