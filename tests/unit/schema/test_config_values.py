from __future__ import annotations

import copy
import json

import pytest
from conformance.recordings import FOLDER
from kong_pdk.schema.config_values import validate_config
from kong_pdk.schema.error_text import format_errors

STRINGS = {"type": "array", "elements": {"type": "string"}}
INTEGERS = {"type": "map", "keys": {"type": "string"}, "values": {"type": "integer"}}
RECORD = {"type": "record", "fields": [{"a": {"type": "string"}}]}
SUBSETS = {"mutually_exclusive_subsets": [["a", "b"], ["c"]]}
FOREIGN = {"type": "foreign", "reference": "consumers"}


def error(field: dict[str, object], value: object) -> object:
    _, errors = validate_config([{"x": field}], {"x": value})
    assert set(errors) <= {"x"}
    return errors.get("x")


def config(field: dict[str, object], value: object) -> object:
    filled, errors = validate_config([{"x": field}], {"x": value})
    assert errors == {}
    return filled.get("x")


@pytest.mark.parametrize(
    ("kind", "good", "bad", "message"),
    [
        ("string", ["a", " "], [1, True, ["a"], {}], "expected a string"),
        ("number", [1, 1.5, -1], ["1", True, [], float("nan"), float("inf")], "expected a number"),
        ("integer", [1, 1.0, -1, 10**20], ["1", True, 1.5, float("inf")], "expected an integer"),
        ("boolean", [True, False], ["true", 0, 1], "expected a boolean"),
    ],
)
def test_types(kind, good, bad, message):
    assert [error({"type": kind}, value) for value in good] == [None] * len(good)
    assert [error({"type": kind}, value) for value in bad] == [message] * len(bad)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (STRINGS, "a", "expected an array"),
        (STRINGS, {"a": 1}, "expected an array"),
        (STRINGS, ["a", 1, "b", 2], {2: "expected a string", 4: "expected a string"}),
        (STRINGS, ["a", None], {2: "required field missing"}),
        (STRINGS, [""], {1: "length must be at least 1"}),
        ({**STRINGS, "type": "set"}, "a", "expected a set"),
        (INTEGERS, "a", "expected a map"),
        (INTEGERS, {"a": "b"}, "expected an integer"),
        (INTEGERS, ["b"], "expected a string"),
        ({**INTEGERS, "keys": {"type": "string", "len_min": 2}}, {"a": 1}, "length must be at least 2"),
        (RECORD, "a", "expected a record"),
        (RECORD, {"a": 1, "b": 2}, {"a": "expected a string", "b": "unknown field"}),
        (RECORD, ["a"], {1: "unknown field"}),
        (FOREIGN, {}, {"id": "missing primary key"}),
        (FOREIGN, {"id": "x"}, {"id": "expected a valid UUID"}),
        ({"type": "string", "abstract": True}, "a", "error in schema definition: abstract field was not specialized"),
    ],
)  # fmt: skip
def test_composite_types(field, value, message):
    assert error(field, value) == message


@pytest.mark.parametrize(
    ("attributes", "value", "message"),
    [
        ({"type": "string"}, "", "length must be at least 1"),
        ({"type": "string", "len_min": 0}, "", None),
        ({"type": "string", "len_min": 3}, "ab", "length must be at least 3"),
        ({"type": "string", "len_min": 3}, "aé", None),
        ({"type": "string", "len_max": 3}, "éé", "length must be at most 3"),
        ({"type": "string", "len_eq": 2}, "abc", "length must be 2"),
        ({**STRINGS, "len_min": 1}, [], "length must be at least 1"),
        ({**INTEGERS, "len_max": 1}, {"a": 1, "c": 2}, "length must be at most 1"),
        ({"type": "string", "one_of": ["a", "b"]}, "c", "expected one of: a, b"),
        ({"type": "number", "one_of": [1, 2.5]}, 3, "expected one of: 1, 2.5"),
        ({"type": "number", "one_of": [1, 2.5]}, 1.0, None),
        ({"type": "string", "not_one_of": ["a", "b"]}, "a", "must not be one of: a, b"),
        ({"type": "string", "not_one_of": ["a", "b"]}, "c", None),
        ({"type": "integer", "between": [1, 10]}, 11, "value should be between 1 and 10"),
        ({"type": "integer", "between": [1, 10]}, 10, None),
        ({"type": "number", "between": [0.5, 1.5]}, 0.4, "value should be between 0 and 1"),
        ({"type": "number", "gt": 0}, 0, "value must be greater than 0"),
        ({"type": "number", "gt": 0.5}, 0.6, None),
        ({"type": "string", "eq": "a"}, "b", "value must be a"),
        ({"type": "boolean", "eq": True}, False, "value must be true"),
        ({"type": "string", "eq": None}, "b", "value must be null"),
        ({"type": "string", "ne": "a"}, "a", "value must not be a"),
        ({"type": "string", "ne": None}, None, "value must not be null"),
        ({"type": "string", "starts_with": "/"}, "a", "should start with: /"),
        ({"type": "string", "match": "^%d+$"}, "a1", "invalid value: a1"),
        ({"type": "string", "match": "^%d+$"}, "11", None),
        ({"type": "string", "not_match": "%s"}, "a b", "invalid value: a b"),
        ({"type": "string", "match_all": [{"pattern": "a", "err": "no a"}]}, "b", "no a"),
        ({"type": "string", "match_none": [{"pattern": "a", "err": "an a"}]}, "a", "an a"),
        ({"type": "string", "match_any": {"patterns": ["a", "b"], "err": "neither"}}, "c", "neither"),
        ({"type": "string", "match_any": {"patterns": ["a", "b"], "err": "neither"}}, "b", None),
        ({"type": "string", "one_of": ["a"], "err": "only a"}, "b", "only a"),
        ({"type": "string", "uuid": True}, "x", "expected a valid UUID"),
        ({"type": "string", "uuid": True}, "3BBB2A3E-0000-4000-8000-0000000000f1", None),
        ({"type": "string", "is_regex": True}, "(", "not a valid regex: ("),
        ({"type": "string", "is_regex": True}, r"(?<name>\d+)\h[[:alpha:]]", None),
        ({"type": "number", "timestamp": True}, 0, "expected a valid timestamp"),
        ({**STRINGS, "contains": "a"}, ["b"], "expected to contain: a"),
        ({**STRINGS, "contains": "a"}, ["b", "a"], None),
        ({**STRINGS, **SUBSETS}, ["a", "c"], "these sets are mutually exclusive: ('a', 'b'), ('c')"),
        ({**STRINGS, **SUBSETS}, ["a", "b", "d"], None),
        ({"type": "string", "referenceable": True, "one_of": ["a"]}, "{vault://env/x}", None),
        ({"type": "string", "one_of": ["a"]}, "{vault://env/x}", "expected one of: a"),
    ],
)  # fmt: skip
def test_attributes(attributes, value, message):
    assert error(attributes, value) == message


def test_required_and_unknown():
    fields = [{"a": {"type": "string", "required": True}}, {"b": {"type": "string"}}]
    assert validate_config(fields, {"c": 1})[1] == {"a": "required field missing", "c": "unknown field"}
    assert validate_config(fields, {"a": None})[1] == {"a": "required field missing"}
    assert validate_config(fields, None)[1] == {"a": "required field missing"}
    assert validate_config(fields, {"a": "x", 5: 1})[1] == {"5": "unknown field"}


def test_optional_fields_without_a_value_are_absent():
    fields = [{"a": {"type": "string"}}, {"b": STRINGS}, {"c": {"type": "string"}}]
    assert validate_config(fields, {"a": None, "c": "x"}) == ({"c": "x"}, {})


def test_defaults():
    fields = [
        {"a": {"type": "string", "default": "x"}},
        {"b": {**STRINGS, "default": ["y"]}},
        {"c": {"type": "boolean", "default": False, "required": True}},
        {"d": {"type": "number", "default": 1}},
    ]
    assert validate_config(fields, {"d": 2}) == ({"a": "x", "b": ["y"], "c": False, "d": 2}, {})
    first, _ = validate_config(fields, {})
    first["b"].append("changed")
    assert validate_config(fields, {})[0]["b"] == ["y"]


def test_null_stays_null_despite_a_default():
    assert validate_config([{"a": {"type": "string", "default": "x"}}], {"a": None}) == ({}, {})


def test_defaults_inside_records():
    """Kong takes a record for required unless its definition says otherwise, except in lists."""
    inner = {"type": "record", "fields": [{"port": {"type": "integer", "default": 6379}}]}
    fields = [
        {"redis": inner},
        {"absent": {**inner, "required": False}},
        {"deep": {"type": "record", "fields": [{"redis": inner}]}},
        {"list": {"type": "array", "elements": {"type": "record", "fields": [{"redis": inner}, *inner["fields"]]}}},
    ]
    filled, errors = validate_config(fields, {"list": [{}, {"redis": {}}]})
    assert errors == {}
    assert filled == {
        "redis": {"port": 6379},
        "deep": {"redis": {"port": 6379}},
        "list": [{"port": 6379}, {"port": 6379, "redis": {"port": 6379}}],
    }
    assert validate_config(fields, {"redis": None})[1] == {"redis": "required field missing"}


def test_default_of_a_record_is_completed():
    fields = [{"port": {"type": "integer", "default": 1}}, {"host": {"type": "string"}}]
    record = {"type": "record", "fields": fields, "default": {"host": "h"}}
    assert validate_config([{"r": record}], {})[0] == {"r": {"host": "h", "port": 1}}


def test_lists_maps_and_sets():
    assert config({**STRINGS, "type": "set"}, ["b", "a", "b"]) == ["b", "a"]
    assert config({"type": "set", "elements": {"type": "number"}}, [1, 1.0, 2]) == [1, 2]
    assert config(STRINGS, {}) == []
    assert config({"type": "map", "keys": {"type": "string"}, "values": {"type": "string"}}, []) == {}
    assert config({"type": "record", "fields": []}, []) == {}


def test_integral_numbers_arrive_as_integers():
    assert json.dumps(config({"type": "array", "elements": {"type": "number"}}, [1.0, 2.5])) == "[1, 2.5]"
    assert json.dumps(config({"type": "integer"}, 7.0)) == "7"


def test_the_user_s_configuration_is_not_changed():
    fields = [{"r": {"type": "record", "fields": [{"a": {"type": "string", "default": "x"}}]}}, {"s": STRINGS}]
    written = {"r": {}, "s": ["a"]}
    before_fields, before = copy.deepcopy(fields), copy.deepcopy(written)
    validate_config(fields, written)
    assert (fields, written) == (before_fields, before)


def test_nested_errors():
    record = {"type": "record", "fields": [{"port": {"type": "integer", "required": True}}]}
    fields = [
        {"redis": {**record, "fields": [*record["fields"], {"tls": record}]}},
        {"all": {"type": "array", "elements": record}},
    ]
    _, errors = validate_config(fields, {"redis": {"tls": {"port": "x"}}, "all": [{"port": 1}, {}]})
    assert errors == {
        "redis": {"port": "required field missing", "tls": {"port": "expected an integer"}},
        "all": {2: {"port": "required field missing"}},
    }


@pytest.mark.parametrize("value", [["a"], "a", 5, True])
def test_config_that_is_not_a_record(value):
    assert validate_config([{"a": {"type": "string"}}], value) == ({}, {"@entity": ["expected a record"]})


CHECKED = ["a", "b", "c"]
BOTH = {"a": "x", "b": "y"}
IF_A = {"if_field": "a", "if_match": {"eq": "x"}, "then_at_least_one_of": ["b", "c"]}


@pytest.mark.parametrize(
    ("check", "value", "errors"),
    [
        ({"at_least_one_of": ["a", "b"]}, {"a": "x"}, None),
        ({"at_least_one_of": ["a", "b"]}, {"c": "x"}, ["at least one of these fields must be non-empty: 'a', 'b'"]),
        ({"only_one_of": ["a", "b"]}, {"a": "x"}, None),
        ({"only_one_of": ["a", "b"]}, BOTH, ["exactly one of these fields must be non-empty: 'a', 'b'"]),
        ({"mutually_required": ["a", "b"]}, {"a": "x"}, ["all or none of these fields must be set: 'a', 'b'"]),
        ({"mutually_required": ["a", "b"]}, {}, None),
        ({"mutually_exclusive": ["a", "b"]}, BOTH, ["only one or none of these fields must be set: 'a', 'b'"]),
        ({"distinct": ["a", "b"]}, {"a": "x", "b": "x"}, ["values of these fields must be distinct: 'a', 'b'"]),
        ({"distinct": ["a", "b"]}, {"a": "x", "b": "y"}, None),
        (
            {"mutually_exclusive_sets": {"set1": ["a"], "set2": ["b", "c"]}},
            {"a": "x", "c": "y"},
            ["these sets are mutually exclusive: ('a'), ('c')"],
        ),
        (
            {"conditional_at_least_one_of": {**IF_A, "then_err": "need %s"}},
            {"a": "x"},
            ["need 'b', 'c'"],
        ),
        (
            {"conditional_at_least_one_of": IF_A},
            {"a": "y"},
            None,
        ),
    ],
)  # fmt: skip
def test_entity_checks(check, value, errors):
    record = {
        "type": "record",
        "fields": [{name: {"type": "string"}} for name in CHECKED],
        "entity_checks": [check],
    }
    assert error(record, value) == (errors and {"@entity": errors})


def test_conditional():
    conditional = {
        "if_field": "policy",
        "if_match": {"eq": "redis"},
        "then_field": "host",
        "then_match": {"required": True},
    }
    record = {
        "type": "record",
        "fields": [{"policy": {"type": "string"}}, {"host": {"type": "string"}}],
        "entity_checks": [{"conditional": conditional}],
    }
    message = "failed conditional validation given value of field 'policy'"
    assert error(record, {"policy": "redis"}) == {"host": "required field missing", "@entity": [message]}
    assert error(record, {"policy": "redis", "host": "h"}) is None
    assert error(record, {"policy": "local"}) is None


def test_entity_check_is_not_run_on_wrong_fields():
    record = {
        "type": "record",
        "fields": [{"a": {"type": "string"}}, {"b": {"type": "string"}}],
        "entity_checks": [{"mutually_required": ["a", "b"]}],
    }
    assert error(record, {"a": 1}) == {"a": "expected a string"}


@pytest.mark.parametrize(
    ("errors", "line"),
    [
        ({"config": {"message": "expected a string"}}, "schema violation (config.message: expected a string)"),
        (
            {"config": {"b": "unknown field", "a": "expected a number"}, "name": "required field missing"},
            "3 schema violations (config.a: expected a number; config.b: unknown field; name: required field missing)",
        ),
        (
            {"config": {"list": {2: "expected a string"}}},
            'schema violation (config.list: { [2] = "expected a string" })',
        ),
        (
            {"config": {"list": {1: {"a b": "x"}, 2: "y"}}},
            'schema violation (config.list: { { ["a b"] = "x" }, "y" })',
        ),
        ({"@entity": ["one of them"]}, "schema violation (one of them)"),
        (
            {"config": {"redis": {"@entity": ["none"], "host": "x"}}},
            'schema violation (config.redis: { ["@entity"] = { "none" }, host = "x" })',
        ),
    ],
)
def test_format_errors(errors, line):
    assert format_errors(errors) == line


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings in {FOLDER}; set KONG_RECORDINGS")
def test_values_are_those_of_a_real_kong():
    """Our configuration of the same file equals the one that the recorded Kong sent, without Kong's own keys."""
    import yaml

    [plugin] = yaml.safe_load((FOLDER / "kong.yml").read_text())["plugins"]
    with (FOLDER / "msgpack.jsonl").open() as cases:
        frames = json.loads(next(cases))["frames"]
    [sent] = [frame["message"][3][0]["Config"] for frame in frames if "plugin.StartInstance" in str(frame["message"])]
    users = {key: value for key, value in json.loads(sent).items() if not key.startswith("__")}
    assert validate_config([{"note": {"type": "string"}}], plugin["config"]) == (users, {})
