"""kong.vault of the embedded gateway: the parts of references, and secrets from variables."""

from __future__ import annotations

from typing import Any

import pytest
from kong_pdk.gateway.exchange import Refused
from unit.gateway.pdk.exchanges import scene


def parse(reference: str) -> Any:
    return scene().call("kong.vault.parse_reference", reference)


def test_reference_has_parts() -> None:
    assert parse("{vault://env/cert/key?prefix=SSL_#1}") == {
        "name": "env",
        "resource": "cert",
        "key": "key",
        "config": {"prefix": "SSL_"},
        "version": 1,
    }


def test_missing_parts_are_left_out() -> None:
    assert parse("{vault://env/my-secret}") == {"name": "env", "resource": "my-secret"}
    assert parse("{vault://hcv/path/to/a%20b/c}") == {"name": "hcv", "resource": "path/to/a b", "key": "c"}


@pytest.mark.parametrize("text", ["", "env/home", "{vault://}", "{vault://env}", "{vault://env/}", "{vault://[/x}"])
def test_other_text_has_no_parts(text: str) -> None:
    assert parse(text) is None
    assert scene().call("kong.vault.get", text) is None


def test_secret_is_a_variable_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "s3cret")
    monkeypatch.setenv("OTHER_MY_SECRET", "prefixed")
    given = scene()
    assert given.call("kong.vault.get", "{vault://env/my-secret}") == "s3cret"
    assert given.call("kong.vault.get", "{vault://env/my-secret?prefix=other_}") == "prefixed"
    assert given.call("kong.vault.get", "{vault://env/not-there-at-all}") is None
    assert given.call("kong.vault.get", "{vault://aws/my-secret}") is None
    monkeypatch.setenv("KONG_VAULT_ENV_PREFIX", "OTHER_")
    assert given.call("kong.vault.get", "{vault://env/my-secret}") == "prefixed"


@pytest.mark.parametrize(
    ("value", "expected"),
    [('{"user": "ada", "n": 1}', "ada"), ('{"n": 1}', None), ("no JSON", None), ("[1]", None), ('{"user": 1}', None)],
)
def test_key_is_a_member_of_a_secret_that_is_json(
    value: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET", value)
    assert scene().call("kong.vault.get", "{vault://env/my-secret/user}") == expected


def test_update_puts_the_secrets_into_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "s3cret")
    references = {"password": "{vault://env/my-secret}", "user": "{vault://env/not-there-at-all}", "n": 1}
    options = {"password": "old", "user": "ada", "$refs": references}
    assert scene().call("kong.vault.update", options) == {**options, "password": "s3cret"}
    assert scene().call("kong.vault.update", {"password": "old"}) == {"password": "old"}


def test_functions_for_kong_s_cache_do_nothing() -> None:
    assert scene().call("kong.vault.flush") is None
    assert scene().call("kong.vault.warmup", {"password": "{vault://env/my-secret}"}) is None


def test_other_values_are_not_references() -> None:
    for method in ("get", "parse_reference"):
        assert scene().call(f"kong.vault.{method}", 5) is None
    assert scene().call("kong.vault.is_reference", 5) is False


@pytest.mark.parametrize("method", ["update", "warmup"])
def test_other_values_than_tables_are_refused(method: str) -> None:
    with pytest.raises(Refused, match="must be a"):
        scene().call(f"kong.vault.{method}", 5)
