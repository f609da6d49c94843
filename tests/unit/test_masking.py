"""Passwords and tokens are masked; other texts stay as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kong_pdk.masking import (
    ends_too_early,
    has_unparsable_url,
    masked,
    remember,
    remember_environment,
    secrets_of,
    secrets_of_environment,
    without_long_secrets,
    without_secrets,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:secret@host:9/simple", "http://****@host:9/simple"),
        ("https://me:se/cret@host/simple", "https://****@host/simple"),
        ("https://me:se@cr/et@host/simple", "https://****@host/simple"),
        ("https://me:se?cr#et@host/simple", "https://****@host/simple"),
        ("https://me:8080/secret@host/simple", "https://****@host/simple"),
        ("https://me:se'cr\"et>@host/simple", "https://****@host/simple"),
        ("https://token@host/simple", "https://****@host/simple"),
        ("https://to/ken@host/simple", "https://****@host/simple"),
        ("https://:secret@host/", "https://****@host/"),
        ("postgres://kong:se/cret@db/kong", "postgres://****@db/kong"),
        ("socks5h://me:secret@proxy:1080", "socks5h://****@proxy:1080"),
        ("git+https://me:secret@host.com/x.git@v1.0#egg=x", "git+https://****@host.com/x.git@v1.0#egg=x"),
        ("git+ssh://git@host.com/x.git@0123456", "git+ssh://****@host.com/x.git@0123456"),
        ("'https://me:secret@host/simple', trying again", "'https://****@host/simple', trying again"),
        ("one http://a:b@h/ two https://c:d@i/", "one http://****@h/ two https://****@i/"),
        ("alpha@https://me:secret@host/alpha.whl", "alpha@https://****@host/alpha.whl"),
        ("https://host/simple?token=secret&page=2", "https://host/simple?token=****&page=2"),
        ("https://host/a.whl?X-Amz-Signature=a%2Fb&X-Amz-Date=2", "https://host/a.whl?X-Amz-Signature=****&X-Amz-Date=2"),
        ("/simple/?private_token=secret (Caused by", "/simple/?private_token=**** (Caused by"),
        ("/opt/go --token=secret -dump", "/opt/go --token=**** -dump"),
        ("/opt/go -api-key 'a secret' -dump", "/opt/go -api-key **** -dump"),
        ("DB_PASSWORD=secret MODE=x /opt/go", "DB_PASSWORD=**** MODE=x /opt/go"),
        ("https://host/?a=1&API-Key=x;password=y#access_token=z", "https://host/?a=1&API-Key=****;password=****#access_token=****"),
    ],
)  # fmt: skip
def test_secrets_are_masked_by_their_form(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "https://host/simple",
        "https://host:8443/simple/",
        "git+https://github.com/me/x.git@v1.0",
        "git+https://github.com/me/x@v1.0#egg=x",
        "https://host:8443/me/x.git@v1.0",
        "https://host/a.whl#sha256=0123456789",
        "https://host/?page=2&monkey=1&design=flat",
        "mail to me@host.com, or see http://host/",
        "alpha==1.0 --hash=sha256:0",
        "/opt/go -dump --no-password --tokens-file=",
    ],
)
def test_everything_else_stays(text: str) -> None:
    assert masked(text) == text


def test_a_secret_is_masked_everywhere() -> None:
    secrets = secrets_of(
        [
            "http://me:pass/word@host/ https://tok%3Den@host/",
            "plain",
            "ssh://git@host/x",
        ]
    )
    text = "connection to me:pass failed: Max retries exceeded with url: /word@host/, tok=en, tok%3Den, pass/word"
    assert masked(text, secrets) == (
        "connection to me:**** failed: Max retries exceeded with url: /****@host/, ****, ****, ****"
    )


def test_a_short_text_is_no_secret() -> None:
    assert secrets_of(["http://me:abc@host/", "ssh://git@host/"]) == frozenset()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://me:pa/ss@host/simple", True),
        ("https://me:pa#ss@host/simple", True),
        ("https://me:pa@ss@host/simple", False),
        ("https://me:pa%2Fss@host/simple", False),
        ("https://host/simple", False),
        ("git+https://host.com/x.git@v1", False),
    ],
)
def test_a_password_that_is_cut(url: str, expected: bool) -> None:
    assert ends_too_early(f"https://host/simple {url}") is expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("--index-url 'https://index.invalid:8443'", False),
        ('--index-url="https://bob:s3c%2Fr%40t@index.invalid:8443/simple"', False),
        (
            "alpha @ https://index.invalid/@scope/alpha@1.0-py3-none-any.whl#sha256=0",
            False,
        ),
        ("git+ssh://git@host.invalid:org/alpha.git", False),
        ("git+https://host.invalid/org/alpha.git@feature/x", False),
        ("https://[::1]:8080/simple", False),
        ("https://bob:${UNSET}@index.invalid/simple", False),
        ("https://index.invalid:${UNSET}/simple", True),
    ],
)
def test_a_url_that_pip_can_use_is_parsable(text: str, found: bool) -> None:
    assert has_unparsable_url(text) is found


@pytest.mark.parametrize(
    ("secret", "text", "expected"),
    [
        ("a-long-secret", "xa-long-secretx, a-long-secret.", "x****x, ****."),
        (
            "kong",
            "kong-python reads /etc/kong/kong.conf as kong: the password is 'kong'.",
            None,
        ),
        ("abc", "abc", "abc"),
    ],
)
def test_a_secret_that_is_remembered(secret: str, text: str, expected: str | None) -> None:
    assert without_secrets(text) == masked(text) == text
    remember([secret])
    whole_words = "kong-python reads /etc/kong/kong.conf as ****: the password is '****'."
    assert without_secrets(text) == masked(text) == (expected or whole_words)


def test_the_longer_of_two_secrets_is_masked_first() -> None:
    remember(["secret-of", "secret-of-mine"])
    assert without_secrets("secret-of-mine, secret-of") == "****, ****"


def test_the_oldest_secret_is_forgotten_when_there_are_too_many() -> None:
    remember(f"secret-{number:06}" for number in range(10_001))
    assert without_secrets("secret-000000 secret-000001 secret-010000") == "secret-000000 **** ****"


def test_the_secrets_of_the_environment_are_not_forgotten() -> None:
    remember_environment({"API_TOKEN": "of-the-environment"})
    remember(f"secret-{number:06}" for number in range(10_001))
    assert without_secrets("of-the-environment secret-010000") == "**** ****"


@pytest.mark.parametrize("secret", ["pa\\ss-word", "tab\tin-it", "both'and\"quotes", "p\u00e4ssw\u00f6rter"])
def test_a_secret_in_the_form_of_python_and_json(secret: str) -> None:
    remember([secret])
    for text in (repr(secret), json.dumps(secret), json.dumps(secret, ensure_ascii=False), str(KeyError(secret))):
        assert without_secrets(text)[1:-1] == "****"


def test_each_line_of_a_secret_is_masked_for_itself() -> None:
    """A log has lines; the frame of a key is in every key, and short lines are parts of other words."""
    remember(["-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n  kqhkiG9w0BAQEF\nAA==\n-----END PRIVATE KEY-----"])
    assert without_secrets("MIIEvQIBADANBg") == without_secrets("kqhkiG9w0BAQEF") == "****"
    assert without_long_secrets(b"  kqhkiG9w0BAQEF") == b"  ****"
    for text in ("-----BEGIN PRIVATE KEY-----", "AA=="):
        assert without_secrets(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "a" * 10**6,
        "a1" * 10**5,
        "?" + "token" * 10**5,
        "--" + "token" * 10**5,
        "@" * 10**5,
    ],
)
def test_a_very_long_word_is_searched_in_a_moment(text: str) -> None:
    """In minutes, it was: the test's own timeout is enough to tell."""
    assert masked(text) == text


def test_secrets_of_an_environment(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("of a file\n")
    environ = {
        "KONG_PG_PASSWORD": "of a variable",
        "MY_API_KEY": "of an API",
        "AWS_SECRET_ACCESS_KEY": "/begins+like/a+path",
        "KONG_SSL_CERT_KEY": "of a key",
        "DB_PASS": "of a database",
        "DATABASE": "postgres://me:of-a-url@db/kong",
        "KONG_PG_RO_PASSWORD_FILE": str(file),
    }
    others = {
        "PWD": str(tmp_path),
        "TOKEN_OF_A_FILE": str(file),
        "SECRETS_DIR": "/nowhere",
        "OTHER_PASSWORD_FILE": str(file),
        "KONG_CLUSTER_TOKEN": "{vault://env/token}",
        "TOKEN_TTL": "3600",
        "KONG_PLUGINS_FILE": str(file),
        "KONG_SSL_CERT_KEY_FILE": str(tmp_path / "none"),
        "KONG_PLUGINS": "bundled",
    }
    secrets = {"of a variable", "of an API", "of-a-url", "of a file"}
    secrets |= {"/begins+like/a+path", "of a key", "of a database"}
    assert {*secrets_of_environment({**environ, **others})} == secrets
