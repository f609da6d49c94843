"""The secrets in a configuration: the values of fields that a schema marks."""

from __future__ import annotations

from typing import Any

import pytest
from kong_pdk.schema.config_values import validate_config
from kong_pdk.schema.error_text import format_errors
from kong_pdk.schema.secret_fields import secret_values

STRING: dict[str, Any] = {"type": "string"}
ENCRYPTED, REFERENCEABLE = {**STRING, "encrypted": True}, {**STRING, "referenceable": True}


@pytest.mark.parametrize(
    ("field", "value", "secrets"),
    [
        (STRING, "plain", []),
        (ENCRYPTED, "s1", ["s1"]),
        (REFERENCEABLE, "s1", ["s1"]),
        (REFERENCEABLE, "{vault://env/s1}", []),
        ({"type": "array", "elements": ENCRYPTED}, ["s1", "s2"], ["s1", "s2"]),
        ({"type": "set", "elements": STRING, "encrypted": True}, ["s1"], ["s1"]),
        ({"type": "map", "keys": STRING, "values": REFERENCEABLE}, {"a": "s1"}, ["s1"]),
        (
            {"type": "record", "fields": [{"host": STRING}, {"password": ENCRYPTED}, {"other": ENCRYPTED}]},
            {"host": "plain", "password": "s1", "unknown": "plain"},
            ["s1"],
        ),
        (
            {
                "type": "record",
                "fields": [{"inner": {"type": "record", "fields": [{"key": STRING}]}}],
                "encrypted": True,
            },
            {"inner": {"key": "s1"}},
            ["s1"],
        ),
        ({"type": "array", "elements": ENCRYPTED}, "plain", []),
        ({"type": "record", "fields": [{"a": ENCRYPTED}]}, ["plain"], []),
        ({"type": "number", "encrypted": True}, 5, []),
    ],
)
def test_secret_values(field: dict[str, Any], value: Any, secrets: list[str]) -> None:
    assert [*secret_values(field, value)] == secrets


@pytest.mark.parametrize(
    "check",
    [
        {"match": "^x"},
        {"not_match": "3"},
        {"is_regex": True},
        {"ne": "s3cret("},
        {"match_all": [{"pattern": "^x"}]},
        {"match_none": [{"pattern": "3"}]},
        {"match_any": {"patterns": ["^x"]}},
    ],
    ids=lambda check: next(iter(check)),
)
@pytest.mark.parametrize("mark", ["encrypted", "referenceable", None])
def test_an_error_of_kong_quotes_no_secret(check: dict[str, Any], mark: str | None) -> None:
    marks = {mark: True} if mark else {}
    fields: list[dict[str, Any]] = [
        {"one": {**STRING, **check, **marks}},
        {"list": {"type": "array", "elements": {**STRING, **check}, **marks}},
        {"map": {"type": "map", "keys": STRING, "values": {**STRING, **check, **marks}}},
    ]
    config = {"one": "s3cret(", "list": ["s3cret("], "map": {"a": "s3cret("}}
    _, errors = validate_config(fields, config)
    text = format_errors({"config": errors})
    assert text.startswith("3 schema violations")
    assert text.count("****" if mark else "s3cret(") == 3
    assert not mark or "s3cret" not in text
