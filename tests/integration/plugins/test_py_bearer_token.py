"""``plugins/py-bearer-token``: valid and invalid tokens, the headers for the service, and attacks."""

from __future__ import annotations

import json
import re
import time
import traceback

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from integration.plugins.tokens import (
    AUDIENCE,
    EC,
    ED,
    ISSUER,
    OTHER_RSA,
    RSA,
    SECRET,
    certificate,
    claims,
    forged,
    jwk,
    pem,
    private_jwk,
    private_pem,
    segment,
    token,
)

ALICE = "3bbb2a3e-0000-4000-8000-0000000000a1"
BOB = "3bbb2a3e-0000-4000-8000-0000000000b2"
EXPECTED = {"issuer": [ISSUER], "audience": [AUDIENCE, "invoices"]}
RSA_KEY = {"algorithms": ["RS256"], "keys": [{"key": pem(RSA)}], **EXPECTED}
ROUTES = {
    "rsa": RSA_KEY,
    "kids": {
        "algorithms": ["RS256", "ES256", "EdDSA"],
        "keys": [{"kid": "r", "key": pem(RSA)}, {"kid": "e", "key": pem(EC)}, {"kid": "../d", "key": pem(ED)}],
        **EXPECTED,
    },
    "jwks": {
        "algorithms": ["RS256", "ES256"],
        "jwks": json.dumps({"keys": [jwk(RSA, "r", use="sig", alg="RS256"), jwk(EC, "e"), jwk(RSA, "x", use="enc")]}),
        **EXPECTED,
    },
    "secret": {"algorithms": ["HS256"], "keys": [{"key": SECRET}], **EXPECTED},
    "mixed": {"algorithms": ["RS256", "HS256"], "keys": [{"key": pem(RSA)}], **EXPECTED},
    "loose": {"algorithms": ["RS256"], "keys": [{"key": pem(RSA)}], "require_exp": False, "leeway": 60},
    "strict": {**RSA_KEY, "required_claims": ["jti", "sub"]},
    "scopes": {**RSA_KEY, "scopes_required": ["read", "write:all"]},
    "roles": {**RSA_KEY, "scopes_required": ["admin"], "scopes_claim": "realm_access.roles"},
    "claims": {
        **RSA_KEY,
        "upstream_headers": {"X-Subject": "sub", "X-Roles": "realm_access.roles", "X-Age": "age"},
        "hide_credentials": True,
    },
    "consumer": {**RSA_KEY, "consumer_claim": "sub"},
    "by-id": {**RSA_KEY, "consumer_claim": "sub", "consumer_by": "id"},
    "optional": {**RSA_KEY, "consumer_claim": "sub", "consumer_optional": True},
    "anonymous": {**RSA_KEY, "consumer_claim": "sub", "anonymous": "nobody"},
    "either": {**RSA_KEY, "consumer_claim": "sub", "anonymous": "nobody"},
    "misnamed": {**RSA_KEY, "anonymous": "not-there"},
    "preflight": {**RSA_KEY, "run_on_preflight": False, "realm": "our orders"},
}
KEY_AUTH = {"name": "key-auth", "config": {"anonymous": "nobody", "key_names": ["apikey"]}}
KONG = yaml.safe_dump(
    {
        "_format_version": "3.0",
        "consumers": [
            {"id": ALICE, "username": "alice", "custom_id": "a-1"},
            {"id": BOB, "username": "bob", "keyauth_credentials": [{"key": "bobs-key"}]},
            {"username": "nobody"},
        ],
        "services": [
            {
                "name": "demo",
                "url": "http://upstream:9000",
                "routes": [
                    {
                        "name": name,
                        "paths": [f"/{name}"],
                        "plugins": [
                            {"name": "py-bearer-token", "config": config},
                            *([KEY_AUTH] if name == "either" else []),
                        ],
                    }
                    for name, config in ROUTES.items()
                ],
            }
        ],
    }
)
UNAUTHORIZED = b'{"message":"Unauthorized"}'


@pytest.fixture
def node(gateway):
    return gateway("py-bearer-token", configuration=KONG)


def bearer(text):
    return [("Authorization", f"Bearer {text}")]


def passed(node, path, text, *headers):
    """Give the request as the service received it."""
    node.service.received.clear()
    reply = node.request("GET", path, [*bearer(text), *headers])
    assert (reply.status, reply.body) == (200, b"from the service"), reply
    [received] = node.service.received
    return received


def refused(node, path, text, *headers):
    """Give the description of an invalid token; the service received no request."""
    node.service.received.clear()
    reply = node.request("GET", path, [*bearer(text), *headers])
    assert (reply.status, reply.body) == (401, UNAUTHORIZED), reply
    [challenge] = reply.values("www-authenticate")
    found = re.fullmatch(r'Bearer realm="kong", error="invalid_token", error_description="([^"\\]+)"', challenge)
    assert found, challenge
    assert node.service.received == []
    return found[1]


def test_a_valid_token_passes_and_the_service_learns_its_subject(node):
    received = passed(node, "/rsa", token())
    assert received.values("x-authenticated-subject") == ["alice"]
    assert received.value("authorization").startswith("Bearer ")
    assert node.trouble() == []


def test_the_scheme_has_any_case_and_any_number_of_spaces(node):
    for scheme in ("bearer ", "BEARER ", "Bearer    "):
        assert node.request("GET", "/rsa", [("Authorization", scheme + token())]).status == 200


def test_without_a_bearer_token_the_challenge_has_no_error(node):
    for headers in ([], [("Authorization", "Basic YTpi")], [("Authorization", token())]):
        reply = node.request("GET", "/rsa", headers)
        assert (reply.status, reply.body) == (401, UNAUTHORIZED)
        assert reply.values("www-authenticate") == ['Bearer realm="kong"']
    reply = node.request("GET", "/preflight")
    assert reply.values("www-authenticate") == ['Bearer realm="our orders"']
    assert node.service.received == []


def test_an_invalid_header_is_a_400(node):
    for headers in ([*bearer(token()), *bearer(token())], [*bearer(token()), ("Authorization", "Basic YTpi")],
                    [("Authorization", "Bearer   ")]):  # fmt: skip
        reply = node.request("GET", "/rsa", headers)
        assert reply.status == 400
        assert node.service.received == []
    assert reply.values("www-authenticate") == [
        'Bearer realm="kong", error="invalid_request", error_description="The Authorization header has no token"'
    ]


def test_times_are_checked_with_the_leeway(node):
    now = int(time.time())
    assert refused(node, "/rsa", token(exp=now - 5)) == "The token has expired"
    assert refused(node, "/rsa", token(nbf=now + 30)) == "The token is not valid yet"
    assert refused(node, "/rsa", token(iat=now + 30)) == "The token is not valid yet"
    loose = {"aud": None, "iss": None}
    passed(node, "/loose", token(**loose, exp=now - 30, nbf=now + 30))
    assert refused(node, "/loose", token(**loose, exp=now - 90)) == "The token has expired"
    assert refused(node, "/loose", token(**loose, nbf=now + 90)) == "The token is not valid yet"


def test_exp_is_required_by_default_and_so_are_configured_claims(node):
    assert refused(node, "/rsa", token(exp=None)) == "The token lacks the claim exp"
    passed(node, "/loose", token(aud=None, exp=None))
    assert refused(node, "/strict", token()) == "The token lacks the claim jti"
    assert refused(node, "/strict", token(jti="1", exp=None)) == "The token lacks the claim exp"
    passed(node, "/strict", token(jti="1"))


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-1", "true", '"soon"', '""', "[]", "{}", "1e400"])
def test_an_exp_that_is_not_in_the_future_is_refused(node, bad):
    payload = json.dumps(claims(exp=None))[:-1] + f', "exp": {bad}}}'
    assert refused(node, "/secret", forged({"alg": "HS256"}, payload.encode(), SECRET.encode()))
    assert node.trouble() == []


def test_audience_and_issuer(node):
    passed(node, "/rsa", token(aud="invoices"))
    passed(node, "/rsa", token(aud=["others", "orders"]))
    for audience in ("others", ["others"], "orders ", "ORDERS", {"orders": 1}, [["orders"]]):
        assert refused(node, "/rsa", token(aud=audience)) == "The token is for another audience"
    assert refused(node, "/rsa", token(aud=None)) == "The token lacks the claim aud"
    for issuer in ("https://issuer.test", "https://other.test/"):
        assert refused(node, "/rsa", token(iss=issuer)) == "The token is of another issuer"
    assert refused(node, "/rsa", token(iss=None)) == "The token lacks the claim iss"


def test_without_an_audience_a_token_with_one_is_refused(node):
    assert refused(node, "/loose", token()) == "The token is for another audience"


def test_a_key_is_found_by_its_kid_among_those_configured(node):
    for path in ("/kids", "/jwks"):
        passed(node, path, token(RSA, "RS256", {"kid": "r"}))
        passed(node, path, token(EC, "ES256", {"kid": "e"}))
        passed(node, path, token(EC, "ES256"))
        assert refused(node, path, token(RSA, "RS256", {"kid": "e"})) == "The key of the token is not known"
        assert refused(node, path, token(RSA, "RS256", {"kid": "x"})) == "The key of the token is not known"
        assert refused(node, path, token(OTHER_RSA, "RS256", {"kid": "r"})) == "The signature is not valid"
    passed(node, "/kids", token(ED, "EdDSA", {"kid": "../d"}))
    passed(node, "/rsa", token(RSA, "RS256", {"kid": "whatever it is"}))


@pytest.mark.parametrize("kid", ["../../etc/passwd", "/dev/null", "' OR 1=1 --", "\0", "", "\ud800", "r" * 9000])
def test_a_kid_is_only_compared(node, kid):
    assert refused(node, "/kids", token(OTHER_RSA, "RS256", {"kid": kid}))
    assert node.trouble() == []


@pytest.mark.parametrize("kid", [1, None, ["r"], {"r": 1}])
def test_a_kid_that_is_not_text_is_refused(node, kid):
    _, payload, signature = token(RSA, "RS256").split(".")
    refused(node, "/kids", f"{segment({'alg': 'RS256', 'kid': kid})}.{payload}.{signature}")


@pytest.mark.parametrize(
    "name", ["none", "None", "NONE", "nOnE", "", None, 5, ["RS256"], "HS256", "RS512", "PS256", "rs256"]
)
@pytest.mark.parametrize("path", ["/rsa", "/kids", "/jwks"])
def test_an_algorithm_that_is_not_configured_is_refused(node, path, name):
    payload = segment(claims())
    header = segment({"alg": name, "kid": "r"})
    for signature in ("", "AA", token().split(".")[2]):
        description = refused(node, path, f"{header}.{payload}.{signature}")
        assert description == ("The algorithm of the token is not allowed" if signature else "The token is malformed")
    assert refused(node, path, f"{segment({'typ': 'JWT'})}.{payload}.AA") == "The algorithm of the token is not allowed"


def test_a_public_key_is_not_used_as_a_secret_with_both_kinds_of_algorithms(node):
    for secret in (pem(RSA), pem(RSA).strip(), pem(RSA) + "\n", ""):
        forgery = forged({"alg": "HS256", "typ": "JWT"}, claims(), secret.encode())
        assert refused(node, "/mixed", forgery) == "The key of the token is not known"
        assert refused(node, "/rsa", forgery) == "The algorithm of the token is not allowed"
    passed(node, "/mixed", token())
    passed(node, "/secret", forged({"alg": "HS256"}, claims(), SECRET.encode()))


def test_a_key_that_the_token_brings_is_not_used(node):
    for header in ({"jwk": jwk(OTHER_RSA, "r")}, {"jku": "https://127.0.0.1:1/"}, {"x5u": "https://127.0.0.1:1/"},
                   {"jwk": jwk(OTHER_RSA, "r"), "kid": "r"}):  # fmt: skip
        assert refused(node, "/kids", token(OTHER_RSA, "RS256", header)) == "The signature is not valid"


def test_a_header_with_critical_parts_that_are_not_understood_is_refused(node):
    for header in ({"crit": ["exp"], "exp": 1}, {"crit": ["b64"], "b64": True}, {"crit": []}, {"crit": "x", "x": 1}):
        text = forged({"alg": "HS256", **header}, claims(), SECRET.encode())
        assert refused(node, "/secret", text) == "The token is malformed"


def test_an_altered_token_is_refused(node):
    header, payload, signature = token().split(".")
    other = token(sub="bob").split(".")
    assert refused(node, "/rsa", f"{header}.{other[1]}.{signature}") == "The signature is not valid"
    for text in (f"{header}.{payload}", f"{header}.{payload}.{signature}.", f"{header}.{payload}.{signature}.x",
                 f"{header}.{payload}.{signature}=", f"{header}.{payload}.{signature[:-1]}", f".{payload}.{signature}",
                 f"{header}..{signature}", f"{header} {payload} {signature}", "x", "...", "\u00e9.\u00e9.\u00e9",
                 f"{segment(b'[]')}.{payload}.{signature}", f"{segment(b'x')}.{payload}.{signature}",
                 f"{segment(b'[' * 5000)}.{payload}.{signature}",
                 f"{header}.{payload}.{signature}, Bearer {token()}"):  # fmt: skip
        refused(node, "/rsa", text.encode("latin-1").decode("latin-1"))
    assert node.trouble() == []


@pytest.mark.parametrize("payload", [b"[]", b"x", b"null", b"[" * 5000, b'{"exp": 99999999999, "sub": 5}', b"\xff"])
def test_invalid_claims_are_refused_though_they_are_signed(node, payload):
    assert refused(node, "/secret", forged({"alg": "HS256"}, payload, SECRET.encode()))
    assert node.trouble() == []


def test_a_huge_token_is_refused_before_it_is_read(node):
    fits = token(note="n" * 8000)
    assert len(fits) < 16384
    passed(node, "/rsa", fits)
    reply = node.request("GET", "/rsa", bearer(token(note="n" * 20000)))
    assert (reply.status, node.service.received[1:]) == (401, [])


def test_a_scope_that_is_missing_is_a_403(node):
    passed(node, "/scopes", token(scope="read write:all more"))
    passed(node, "/scopes", token(scope=["write:all", "read"]))
    for scope in (None, "", "read", "read write", "readwrite:all", ["read write:all"], 7, {"read": 1, "write:all": 1}):
        node.service.received.clear()
        reply = node.request("GET", "/scopes", bearer(token(scope=scope)))
        assert (reply.status, reply.body) == (403, b'{"message":"Forbidden"}')
        [challenge] = reply.values("www-authenticate")
        assert 'error="insufficient_scope"' in challenge
        assert 'scope="read write:all"' in challenge
        assert node.service.received == []
    passed(node, "/roles", token(realm_access={"roles": ["admin"]}))
    assert node.request("GET", "/roles", bearer(token(realm_access=["admin"]))).status == 403


def test_claims_are_sent_as_headers_as_text_or_json(node):
    text = token(sub="Ren\u00e9 \u2603", age=42, realm_access={"roles": ["a,b", "\u00e9"]})
    received = passed(node, "/claims", text)
    assert received.value("x-subject").encode("latin-1").decode() == "Ren\u00e9 \u2603"
    assert received.values("x-roles") == ['["a,b","\\u00e9"]']
    assert received.values("x-age") == ["42"]
    assert received.values("authorization") == []
    received = passed(node, "/claims", token(sub=None, age=0, realm_access="x"))
    assert (received.values("x-subject"), received.values("x-roles"), received.values("x-age")) == ([], [], ["0"])


@pytest.mark.parametrize(
    "text", ["a\r\nX-Admin: 1", "a\nb", "a\0", " alice", "alice\t", "\u2028", "\ud800", "\u00a0alice"]
)
def test_a_claim_that_a_header_cannot_carry_is_refused(node, text):
    description = refused(node, "/secret", forged({"alg": "HS256"}, claims(sub=text), SECRET.encode()))
    assert description == "The claim sub cannot be sent in a header"
    assert node.trouble() == []


FORGED = ["X-Subject", "x-subject", "X-ROLES", "X-Consumer-ID", "X-Consumer-Username", "X-Consumer-Custom-ID",
          "X-Credential-Identifier", "X-Anonymous-Consumer"]  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_a_client_cannot_send_the_plugin_s_headers(node, name):
    received = passed(node, "/claims", token(sub=None), (name, "forged"), (name, "again"))
    assert received.values(name) == []
    received = passed(node, "/claims", token(), (name, "forged"))
    assert received.values(name) == (["alice"] if name.lower() == "x-subject" else [])
    node.service.received.clear()
    reply = node.request("GET", "/claims", [*bearer(token()), (name.replace("-", "_"), "forged")])
    assert (reply.status, node.service.received) == (400, [])


def test_headers_cannot_hide_behind_a_thousand_others(node):
    many = [(f"X-{number}", "1") for number in range(1100)]
    reply = node.request("GET", "/claims", [*bearer(token()), *many, ("X-Subject", "forged")])
    assert (reply.status, node.service.received) == (400, [])


def identity(received):
    names = ("x-consumer-id", "x-consumer-username", "x-consumer-custom-id", "x-credential-identifier")
    return [received.value(name) for name in (*names, "x-anonymous-consumer")]


def test_the_consumer_is_found_by_a_claim_and_set(node):
    assert identity(passed(node, "/consumer", token())) == [ALICE, "alice", "a-1", "alice", None]
    assert identity(passed(node, "/consumer", token(sub="bob"))) == [BOB, "bob", None, "bob", None]
    assert identity(passed(node, "/by-id", token(sub=BOB))) == [BOB, "bob", None, BOB, None]
    assert identity(passed(node, "/by-id", token(sub=BOB.upper()))) == [BOB, "bob", None, BOB.upper(), None]
    assert node.trouble() == []


@pytest.mark.parametrize("sub", ["carol", "Alice", "alice\0", "\ud800", "", " alice", ALICE, BOB, "x" * 5000, None])
def test_a_name_or_id_without_a_consumer_is_a_403(node, sub):
    text = forged({"alg": "RS256"}, claims(sub=sub))
    reply = node.request("GET", "/consumer", bearer(token(sub=sub) if sub != "\ud800" else text))
    assert reply.status in (401, 403)
    assert node.service.received == []
    assert node.trouble() == []


@pytest.mark.parametrize("sub", ["alice", "not-an-id", "3bbb2a3e-0000-4000-8000-0000000000ff", f"{ALICE}\n", None])
def test_an_unknown_id_is_a_403_and_never_a_500(node, sub):
    assert node.request("GET", "/by-id", bearer(token(sub=sub))).status in (401, 403)
    assert node.service.received == []
    assert node.trouble() == []


def test_an_optional_consumer(node):
    assert identity(passed(node, "/optional", token())) == [ALICE, "alice", "a-1", "alice", None]
    assert identity(passed(node, "/optional", token(sub="carol"))) == [None] * 5


def test_without_a_token_the_anonymous_consumer_goes_on_but_a_bad_token_is_refused(node):
    reply = node.request("GET", "/anonymous", [("X-Consumer-Username", "alice"), ("X-Authenticated-Subject", "root")])
    assert reply.status == 200
    [received] = node.service.received
    assert identity(received)[1:] == ["nobody", None, None, "true"]
    assert received.values("x-authenticated-subject") == []
    node.service.received.clear()
    refused(node, "/anonymous", token(exp=1))
    assert identity(passed(node, "/anonymous", token()))[1] == "alice"


def test_with_two_plugins_that_authenticate_one_is_enough(node):
    assert identity(passed(node, "/either", token()))[1] == "alice"
    node.service.received.clear()
    assert node.request("GET", "/either", [("apikey", "bobs-key")]).status == 200
    assert identity(node.service.received.pop())[1] == "bob"
    assert node.request("GET", "/either").status == 200
    assert identity(node.service.received.pop())[1::3] == ["nobody", "true"]
    refused(node, "/either", token(exp=1), ("apikey", "bobs-key"))


def test_a_missing_anonymous_consumer_is_a_500(node):
    assert node.request("GET", "/misnamed").status == 500
    assert node.service.received == []
    node.wait_for_line("there is no consumer 'not-there', which anonymous names")
    passed(node, "/misnamed", token())


def test_a_preflight_request_passes_where_it_is_configured(node):
    assert node.request("OPTIONS", "/preflight", [("X-Consumer-ID", "forged")]).status == 200
    assert node.service.received[0].values("x-consumer-id") == []
    assert node.request("OPTIONS", "/rsa").status == 401
    assert node.request("GET", "/preflight").status == 401


def test_no_token_and_no_key_is_in_the_log(node):
    texts = [token(), token(exp=1), forged({"alg": "HS256"}, claims(), SECRET.encode())]
    for text in texts:
        for path in ("/rsa", "/secret", "/mixed", "/anonymous"):
            node.request("GET", path, bearer(text))
    node.request("GET", "/rsa?the-last-one")
    node.wait_for_line("the-last-one")
    log = "".join(node.lines)
    for secret in (*(part for text in texts for part in text.split(".")), SECRET, *pem(RSA).splitlines()[1:-1]):
        assert secret not in log


def keys(algorithm, *texts):
    return {"algorithms": [algorithm], "keys": [{"key": text} for text in texts]}


def key_set(algorithm, text):
    return {"algorithms": [algorithm], "jwks": text}


KEYS = [
    ({"algorithms": ["RS256"]}, "there is nothing to verify tokens with"),
    (keys("HS256", pem(RSA)), "in keys, key 1 fits none of the algorithms; it is for PS256"),
    (keys("RS256", pem(RSA), SECRET), "in keys, key 2 fits none of the algorithms"),
    (keys("ES384", pem(EC)), "in keys, key 1 fits none of the algorithms; it is for ES256"),
    (keys("HS512", SECRET), "in keys, key 1 fits none of the algorithms; it is for HS256"),
    (keys("HS256", "too short to be a good one"), "in keys, key 1 is a secret of fewer than 32 bytes"),
    (keys("HS256", "{vault://env/the-key-of-our-tokens}"), "is a reference to a vault that Kong has not resolved"),
    (keys("HS256", json.dumps(jwk(RSA, "r"))), "is not a secret but a key in a form that is not known"),
    (keys("RS256", "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"), "is not the PEM of a public key"),
    (keys("RS256", private_pem(RSA)), "is not the PEM of a public key"),
    (keys("RS256", pem(rsa.generate_private_key(65537, 1024))), "is an RSA key of 1024 bits"),
    (key_set("RS256", "{"), "jwks cannot be used: it is not a JSON object"),
    (key_set("RS256", '{"keys": []}'), "in jwks, there is no key for signatures"),
    (key_set("RS256", '{"keys": [{"kty": "RSA"}]}'), "in jwks, key 1 is broken"),
    (key_set("RS256", '{"keys": [{"kty": "RSA", "kid": 5}]}'), "in jwks, key 1 is not a JSON object"),
    (key_set("RS256", json.dumps({"keys": [private_jwk(RSA)]})), "in jwks, key 1 is not a public key"),
    (key_set("HS256", '{"keys": [{"kty": "oct", "k": "c2hvcnQ"}]}'), "in jwks, key 1 is a secret of fewer than 32"),
]


@pytest.mark.parametrize(("config", "message"), KEYS)
def test_unusable_keys_are_refused_and_not_shown(instance, config, message):
    with pytest.raises(ValueError) as raised:
        instance("py-bearer-token", **config)
    assert message in str(raised.value)
    logged = "".join(traceback.format_exception(raised.value))
    assert not any(entry["key"] in logged for entry in config.get("keys", []))


@pytest.mark.parametrize("name", ["none", "HS1", "rs256"])
def test_algorithms_are_named_and_never_none(instance, name):
    with pytest.raises(AssertionError, match="algorithms"):
        instance("py-bearer-token", algorithms=[name], keys=[{"key": SECRET}])
    with pytest.raises(AssertionError, match="algorithms"):
        instance("py-bearer-token", keys=[{"key": SECRET}])


@pytest.mark.parametrize(
    "uri", ["http://issuer.test/keys", "file:///etc/passwd", "https://user:word@issuer.test/", "https://a b"]
)
def test_keys_only_come_over_https(instance, uri):
    with pytest.raises(AssertionError, match="jwks_uri"):
        instance("py-bearer-token", algorithms=["RS256"], jwks_uri=uri)


def test_a_certificate_is_a_public_key(instance):
    plugin = instance("py-bearer-token", algorithms=["RS256"], keys=[{"key": certificate(RSA)}], **EXPECTED)
    assert plugin._verifier.claims(token())["sub"] == "alice"
