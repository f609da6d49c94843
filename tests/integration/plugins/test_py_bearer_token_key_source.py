"""``plugins/py-bearer-token``: keys from a URL, fetched, kept, and removed."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from integration.plugins.nodes import ROOT
from integration.plugins.tokens import (
    AUDIENCE,
    EC,
    ISSUER,
    OTHER_RSA,
    RSA,
    SECRET,
    certificate,
    claims,
    forged,
    jwk,
    pem,
    token,
)
from local_servers import Answer, HttpServer, Request
from waiting import DEADLINE, wait_for

BOTH = {"algorithms": ["RS256", "ES256"], "issuer": [ISSUER], "audience": [AUDIENCE]}


@dataclass
class Keys:
    """The issuer's answer; it is held back until ``go`` is set."""

    content: bytes = b""
    status: int = 200
    location: str | None = None
    go: threading.Event = field(default_factory=threading.Event)
    requests: int = 0

    def keys(self, *entries: dict[str, object]) -> None:
        self.content = json.dumps({"keys": entries}).encode()


class Issuer:
    """An HTTPS server with a JWK Set at each path."""

    def __init__(self, folder: Path) -> None:
        self.authority = folder / "authority.pem"
        self.authority.write_text(certificate(OTHER_RSA))
        private = folder / "private.pem"
        private.write_bytes(OTHER_RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.answers: dict[str, Keys] = {}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.authority, private)
        self._server = HttpServer(self._answer, context)

    def place(self, *entries: dict[str, object]) -> tuple[str, Keys]:
        """Give a new URL with these keys."""
        path = f"/keys/{len(self.answers)}"
        answer = self.answers[path] = Keys()
        answer.keys(*entries)
        answer.go.set()
        return f"{self._server.url}{path}", answer

    def close(self) -> None:
        for answer in self.answers.values():
            answer.go.set()
        self._server.close()

    def _answer(self, request: Request) -> Answer:
        answer = self.answers[request.path]
        answer.requests += 1
        answer.go.wait(DEADLINE)
        return Answer(answer.status, [("Location", answer.location)] if answer.location else [], answer.content)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    issuer = Issuer(tmp_path_factory.mktemp("issuer"))
    yield issuer
    issuer.close()


@pytest.fixture
def trusted(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(issuer.authority))


@pytest.fixture
def subject(instance, issuer, trusted):
    """Make the function that gives the subject of a token, or the name of the exception."""

    def make(uri, **config):
        plugin = instance("py-bearer-token", jwks_uri=uri, **{**BOTH, **config})

        def of(text):
            try:
                return plugin._verifier.claims(text)["sub"]
            except Exception as error:
                return f"{type(error).__name__}: {error}".rstrip(": ")

        of.plugin = plugin
        return of

    return make


UNKNOWN = "InvalidToken: The key of the token is not known"
KNOWN = {"kid": "r"}


@pytest.fixture(scope="module")
def rotated(issuer, protocol):
    """An address, of this protocol's node alone, of keys that change."""
    return issuer.place(jwk(RSA, "r"))


@pytest.fixture(scope="module")
def failing(issuer, protocol):
    """An address, of this protocol's node alone, that has an error in place of keys."""
    uri, answer = issuer.place(jwk(RSA, "r"))
    answer.status = 502
    return uri, answer


@pytest.fixture
def node(gateway, issuer, rotated, failing):
    routes = [
        {"name": name, "paths": [f"/{name}"], "plugins": [
            {"name": "py-bearer-token", "config": {**BOTH, "jwks_uri": uri, "jwks_pause": 1}}
        ]}
        for name, (uri, _) in (("rotated", rotated), ("failing", failing))
    ]  # fmt: skip
    service = {"name": "demo", "url": "http://upstream:9000", "routes": routes}
    configuration = json.dumps({"_format_version": "3.0", "services": [service]})
    return gateway("py-bearer-token", configuration=configuration, environment={"SSL_CERT_FILE": str(issuer.authority)})


def test_keys_of_a_url_and_a_new_one_among_them(node, rotated):
    _, answer = rotated

    def status(text):
        return node.request("GET", "/rotated", [("Authorization", f"Bearer {text}")]).status

    assert status(token(RSA, "RS256", KNOWN)) == 200
    assert status(token(EC, "ES256", {"kid": "new"})) == 401
    answer.keys(jwk(RSA, "r"), jwk(EC, "new"))
    wait_for(lambda: status(token(EC, "ES256", {"kid": "new"})) == 200)
    answer.keys(jwk(EC, "new"))
    answer.status = 500
    assert status(token(RSA, "RS256", KNOWN)) == 200
    assert status(token(RSA, "RS256", {"kid": "none"})) == 401


def test_without_keys_it_is_a_503_until_there_are_some(node, failing):
    _, answer = failing
    header = [("Authorization", f"Bearer {token(RSA, 'RS256', KNOWN)}")]
    reply = node.request("GET", "/failing", header)
    assert (reply.status, reply.body) == (503, b'{"message":"Service Unavailable"}')
    assert (reply.values("retry-after"), reply.values("www-authenticate")) == (["5"], [])
    assert node.service.received == []
    assert "the keys of 127.0.0.1 could not be fetched (HTTP Error 502" in node.wait_for_line("could not be fetched")
    answer.status = 200
    wait_for(lambda: node.request("GET", "/failing", header).status == 200)


def test_many_requests_wait_for_one_fetch(subject, issuer):
    uri, answer = issuer.place(jwk(RSA, "r"))
    answer.go.clear()
    of = subject(uri)
    wait_for(lambda: answer.requests == 1)
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(of, token(RSA, "RS256", KNOWN)) for _ in range(20)]
        answer.go.set()
        assert [each.result(DEADLINE) for each in asked] == ["alice"] * 20
    assert answer.requests == 1


def test_unknown_kids_make_no_more_fetches_than_configured(subject, issuer):
    uri, answer = issuer.place(jwk(RSA, "r"))
    of = subject(uri, jwks_pause=3600)
    for number in range(30):
        assert of(token(OTHER_RSA, "RS256", {"kid": f"made-up-{number}"})) == UNKNOWN
    assert of(token(RSA, "RS256", KNOWN)) == "alice"
    assert answer.requests == 1


def test_a_configured_key_without_a_kid_does_not_hide_those_of_the_url(subject, issuer):
    uri, _ = issuer.place(jwk(RSA, "r"))
    of = subject(uri, keys=[{"key": pem(OTHER_RSA)}])
    for header in (None, KNOWN):
        assert of(token(RSA, "RS256", header)) == "alice"
        assert of(token(OTHER_RSA, "RS256", header)) == "alice"
    assert of(token(EC, "ES256", KNOWN)) == UNKNOWN


def test_a_slow_source_delays_only_requests_that_need_it(subject, issuer):
    uri, answer = issuer.place(jwk(RSA, "r"))
    of = subject(uri, jwks_pause=1, jwks_timeout=60)
    assert of(token(RSA, "RS256", KNOWN)) == "alice"
    answer.go.clear()
    answer.keys(jwk(RSA, "r"), jwk(EC, "new"))
    time_to_fetch = time.monotonic() + 1
    wait_for(lambda: time.monotonic() > time_to_fetch)
    with ThreadPoolExecutor(100) as pool:
        waiting = [pool.submit(of, token(EC, "ES256", {"kid": "new"})) for _ in range(100)]
        wait_for(lambda: sum(each.done() for each in waiting) >= 36)  # 64 wait, the others are answered
        for _ in range(20):
            assert of(token(RSA, "RS256", KNOWN)) == "alice"
        assert sum(each.done() for each in waiting) == 36
        answer.go.set()
        assert sorted(each.result(DEADLINE) for each in waiting) == [UNKNOWN] * 36 + ["alice"] * 64
    assert answer.requests == 2


def test_known_keys_are_used_for_a_time_while_the_source_is_down(subject, issuer, caplog):
    uri, answer = issuer.place(jwk(RSA, "r"))
    of = subject(uri, jwks_lifetime=1, jwks_pause=1, jwks_max_age=86400)
    assert of(token(RSA, "RS256", KNOWN)) == "alice"
    answer.status = 503

    def failed():
        assert of(token(RSA, "RS256", KNOWN)) == "alice"
        return "those known are used on" in caplog.text

    wait_for(failed)
    old, answer_of_old = issuer.place(jwk(RSA, "r"))
    of = subject(old, jwks_lifetime=1, jwks_pause=1, jwks_max_age=1)
    assert of(token(RSA, "RS256", KNOWN)) == "alice"
    answer_of_old.status = 503
    wait_for(lambda: of(token(RSA, "RS256", KNOWN)) == "NoKeys")


def test_a_key_that_the_source_has_removed_is_removed(subject, issuer):
    uri, answer = issuer.place(jwk(RSA, "r"), jwk(EC, "e"))
    of = subject(uri, jwks_lifetime=1, jwks_pause=1)
    assert of(token(EC, "ES256", {"kid": "e"})) == "alice"
    answer.keys(jwk(RSA, "r"))
    wait_for(lambda: of(token(EC, "ES256", {"kid": "e"})) == UNKNOWN)


def test_the_keys_outlive_a_change_of_the_configuration(subject, issuer):
    uri, answer = issuer.place(jwk(RSA, "r"))
    assert subject(uri)(token(RSA, "RS256", KNOWN)) == "alice"
    answer.status = 503
    assert subject(uri, leeway=5)(token(RSA, "RS256", KNOWN)) == "alice"
    assert answer.requests == 1


def test_a_public_secret_and_a_key_for_another_use_are_not_used(subject, issuer):
    secret = {"kty": "oct", "kid": "s", "k": "YSBzZWNyZXQgb2YgdGhlIHRlc3RzLCB0aGlydHktdHdvIGJ5dGVzIG9yIG1vcmU"}
    uri, _ = issuer.place(
        secret, jwk(RSA, "r"), jwk(OTHER_RSA, "e", use="enc"), {"kty": "new"}, jwk(OTHER_RSA, "a", alg="RSA-OAEP")
    )
    of = subject(uri, algorithms=["RS256", "HS256"])
    assert of(token(RSA, "RS256", KNOWN)) == "alice"
    assert of(forged({"alg": "HS256", "kid": "s"}, claims(), SECRET.encode())) == UNKNOWN
    assert of(forged({"alg": "HS256"}, claims(), SECRET.encode())) == UNKNOWN
    for kid in ("e", "a"):
        assert of(token(OTHER_RSA, "RS256", {"kid": kid})) == UNKNOWN


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"content": b"<html>"}, "it is not a JSON object with a list of keys"),
        ({"content": b"[" * 100000}, "it is not a JSON object with a list of keys"),
        ({"content": b'{"keys": {}}'}, "it has no list of at most 100 keys"),
        ({"content": json.dumps({"keys": [{}] * 101}).encode()}, "it has no list of at most 100 keys"),
        ({"content": b'{"keys": []}'}, "it has no key that fits the algorithms"),
        ({"content": b" " * 1024 * 1024 + b" "}, "it is longer than 1048576 bytes"),
        ({"status": 302, "location": "https://127.0.0.1:1/"}, "HTTP Error 302"),
        ({"status": 302, "location": "file:///etc/passwd"}, "HTTP Error 302"),
        ({"status": 404}, "HTTP Error 404"),
    ],
)
def test_an_invalid_set_of_keys_is_refused_and_the_log_says_why(subject, issuer, caplog, answer, said):
    uri, given = issuer.place(jwk(RSA, "r"))
    for name, value in answer.items():
        setattr(given, name, value)
    assert subject(uri)(token(RSA, "RS256", KNOWN)) == "NoKeys"
    assert f"the keys of 127.0.0.1 could not be fetched ({said}" in caplog.text
    assert "there are none yet" in caplog.text


def test_a_server_without_a_valid_certificate_is_not_asked(subject, issuer, monkeypatch, caplog):
    monkeypatch.delenv("SSL_CERT_FILE")
    uri, answer = issuer.place(jwk(RSA, "r"))
    assert subject(uri)(token(RSA, "RS256", KNOWN)) == "NoKeys"
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
    assert answer.requests == 0


def test_the_page_s_configuration_works_as_described(default_gateway, issuer, snippet):
    uri, _ = issuer.place(jwk(RSA, "r"))
    shown = snippet("docs/plugins/py-bearer-token.md", "py-bearer-token")
    node = default_gateway(
        "py-bearer-token",
        configuration=shown.replace("https://issuer.example.com/keys", uri),
        environment={"SSL_CERT_FILE": str(issuer.authority)},
    )
    reply = node.request("GET", "/orders")
    assert (reply.status, reply.body) == (401, b'{"message":"Unauthorized"}')
    assert reply.value("www-authenticate") == 'Bearer realm="kong"'
    text = token(RSA, "RS256", iss="https://issuer.example.com/")
    assert node.request("GET", "/orders", [("Authorization", f"Bearer {text}")]).status == 200
    assert node.service.received[0].value("x-consumer-username") == "alice"


def test_the_page_s_keys_are_accepted(instance):
    page = (ROOT / "docs" / "plugins" / "py-bearer-token.md").read_text()
    [shown] = re.findall(r"^```yaml\n(algorithms.*?)^```$", page, re.S | re.M)
    plugin = instance("py-bearer-token", **yaml.safe_load(shown))
    assert [key.kid for key in plugin._verifier._keys] == ["key-of-2026"]
