from __future__ import annotations

import enum
import json

import pytest
from kong_pdk.schema.definition import check_schema


def faults(*fields: object) -> list[tuple[tuple[int | str, ...], str]]:
    return [(fault.path, f"{fault.message}; {fault.hint}") for fault in check_schema(list(fields))[1]]


def field_faults(**field: object) -> list[tuple[tuple[int | str, ...], str]]:
    """Faults of one field, their paths counted from the field."""
    return [(path[2:], text) for path, text in faults({"x": field})]


@pytest.mark.parametrize(
    "field",
    [
        {"type": "string"},
        {"type": "string", "required": True, "default": "a", "one_of": ["a", "b"], "len_min": 0, "len_max": 5},
        {"type": "string", "match": "^%d+$", "not_match": "x", "starts_with": "1", "err": "no"},
        {"type": "string", "match_all": [{"pattern": "a", "err": "b"}], "match_any": {"patterns": ["a"], "err": "b"}},
        {"type": "string", "referenceable": True, "encrypted": True, "description": "What it is for."},
        {"type": "string", "uuid": True, "is_regex": True, "not_one_of": ["c"]},
        {"type": "string", "default": "", "len_min": 0},
        {"type": "string", "eq": None},
        {"type": "integer", "between": [0, 10], "gt": 1, "default": 5},
        {"type": "number", "between": [0.5, 1], "default": 1},
        {"type": "number", "timestamp": True},
        {"type": "boolean", "required": True, "default": False},
        {"type": "array", "elements": {"type": "string"}, "default": ["x"], "contains": "x"},
        {"type": "array", "elements": {"type": "array", "elements": {"type": "number"}}, "default": [[1]]},
        {"type": "set", "elements": {"type": "integer"}, "default": [1], "mutually_exclusive_subsets": [["a"]]},
        {"type": "map", "keys": {"type": "string"}, "values": {"type": "boolean"}, "default": {"a": True}},
        {"type": "record", "fields": [], "entity_checks": [{"at_least_one_of": ["a", "b"]}]},
        {"type": "record", "fields": [{"a": {"type": "string", "required": True}}], "default": {"a": "b"}},
        {"type": "foreign", "reference": "consumers"},
        {"type": "string", "deprecation": {"message": "gone", "removal_in_version": "4.0"}},
        {"type": "string", "examples": ["a"], "default": None},
    ],
)
def test_good_fields(field):
    assert field_faults(**field) == []


def test_tuples_and_enums_become_json():
    class Colour(str, enum.Enum):
        RED = "red"

    class Number(enum.IntEnum):
        ONE = 1

    fields, found = check_schema(
        ({"x": {"type": "string", "one_of": (Colour.RED,)}}, {"y": {"type": "integer", "gt": Number.ONE}})
    )
    assert found == []
    assert json.dumps(fields) == json.dumps(
        [{"x": {"type": "string", "one_of": ["red"]}}, {"y": {"type": "integer", "gt": 1}}]
    )


@pytest.mark.parametrize("schema", [{"x": {"type": "string"}}, "x", None, 5, {1, 2}, lambda: ()])
def test_a_schema_that_is_not_a_list(schema):
    [fault] = check_schema(schema)[1]
    assert "not a list or a tuple" in fault.message
    assert fault.path == ()


@pytest.mark.parametrize(
    ("item", "path", "words"),
    [
        ("x", (0,), "has a str where a field should be"),
        (["x"], (0,), "has a list where a field should be"),
        (None, (0,), "has None where a field should be"),
        ({}, (0,), "has a dict with 0 keys, not one"),
        ({"a": {"type": "string"}, "b": {"type": "string"}}, (0,), "has a dict with 2 keys, not one"),
        ({"name": "a", "type": "string"}, (0,), "has a field definition without a name"),
        ({"a": "string"}, (0, "a"), 'field "a" is a str, not a dict with its definition'),
        ({"a": None}, (0, "a"), 'field "a" is None'),
        ({"": {"type": "string"}}, (0,), "name is empty"),
        ({1: {"type": "string"}}, (0,), "has the key 1 as item 1, which is not a string"),
    ],
)
def test_shape(item, path, words):
    [(found, text)] = faults(item)
    assert found == path
    assert words in text


@pytest.mark.parametrize(
    ("field", "path", "words"),
    [
        ({}, (), 'has no type; add "type": one of string, boolean'),
        ({"type": "strng"}, ("type",), "unknown type 'strng'; did you mean \"string\"?"),
        ({"type": "str"}, ("type",), 'did you mean "string"?'),
        ({"type": "bool"}, ("type",), 'did you mean "boolean"?'),
        ({"type": "dict"}, ("type",), 'did you mean "map"?'),
        ({"type": "function"}, ("type",), "unknown type 'function'; use one of"),
        ({"type": ["string"]}, ("type",), "unknown type"),
        ({"type": "string", "requird": True}, ("requird",), 'unknown attribute "requird"; did you mean "required"?'),
        ({"type": "string", "oneof": ["a"]}, ("oneof",), 'did you mean "one_of"?'),
        ({"type": "string", "zzz": 1}, ("zzz",), 'unknown attribute "zzz"; remove it'),
        ({"type": "string", "required": "yes"}, ("required",), '"required" must be True or False'),
        ({"type": "string", "required": 1}, ("required",), '"required" must be True or False'),
        ({"type": "string", "required": None}, ("required",), '"required" must be True or False'),
        ({"type": "string", "one_of": "a"}, ("one_of",), '"one_of" must be a list of strings or numbers'),
        ({"type": "string", "one_of": []}, ("one_of",), '"one_of" must be a list of strings or numbers'),
        ({"type": "boolean", "one_of": ["a"]}, ("one_of",), "of type boolean cannot have the attribute"),
        ({"type": "integer", "between": [1]}, ("between",), '"between" must be a list of two numbers'),
        ({"type": "integer", "between": ["1", 2]}, ("between",), '"between" must be a list of two numbers'),
        ({"type": "integer", "between": [True, 2]}, ("between",), '"between" must be a list of two numbers'),
        ({"type": "integer", "between": [3, 2]}, ("between",), "must have the lower number first"),
        ({"type": "string", "between": [1, 2]}, ("between",), "of type string cannot have the attribute"),
        ({"type": "integer", "gt": "1"}, ("gt",), '"gt" must be a number'),
        ({"type": "integer", "len_min": 1}, ("len_min",), "only array, set, string, map can"),
        ({"type": "string", "len_min": -1}, ("len_min",), "must be a whole number"),
        ({"type": "string", "len_max": 1.5}, ("len_max",), "must be a whole number"),
        ({"type": "string", "match": "["}, ("match",), "must be a Lua pattern (malformed pattern (missing ']'))"),
        ({"type": "string", "match": ""}, ("match",), "must be a string that is not empty"),
        ({"type": "string", "match_all": ["a"]}, ("match_all",), "must be a list of dicts"),
        ({"type": "string", "match_any": ["a"]}, ("match_any",), "must be a dict"),
        ({"type": "string", "description": "short"}, ("description",), "must be a string of 10 to 500 bytes"),
        ({"type": "array"}, (), 'of type array has no "elements"; add "elements": {"type": "string"}'),
        ({"type": "set"}, (), 'of type set has no "elements"'),
        ({"type": "record"}, (), 'of type record has no "fields"'),
        ({"type": "map", "keys": {"type": "string"}}, (), 'of type map has no "values"'),
        ({"type": "map", "values": {"type": "string"}}, (), 'of type map has no "keys"'),
        ({"type": "foreign"}, (), 'of type foreign has no "reference"'),
        ({"type": "array", "elements": "string"}, ("elements",), 'field "x.elements" is a str, not a dict'),
        ({"type": "array", "elements": {"type": "x"}}, ("elements", "type"), 'field "x.elements" has the unknown'),
        ({"type": "record", "fields": {"a": 1}}, ("fields",), '"fields" is a dict, not a list of one-key dicts'),
        (
            {"type": "record", "fields": [{"a": {"type": "string", "len_min": "1"}}]},
            ("fields", 0, "a", "len_min"),
            'field "x.a": "len_min" must be',
        ),
        ({"type": "record", "fields": ["a"]}, ("fields", 0), 'in "x" has a str where a field should be'),
        ({"type": "string", "custom_validator": "x"}, ("custom_validator",), "which needs a Lua function"),
        ({"type": "string", "shorthand_fields": []}, ("shorthand_fields",), "which needs a Lua function"),
        ({"type": "record", "fields": [], "entity_checks": [{"x": []}]}, ("entity_checks",), "checks that Kong knows"),
        ({"type": "record", "fields": [], "entity_checks": [{"distinct": "x"}]}, ("entity_checks",), "field names"),
        ({"type": "record", "fields": [], "entity_checks": [{"conditional": {}}]}, ("entity_checks",), "if_field"),
    ],
)
def test_definitions(field, path, words):
    [(found, text)] = field_faults(**field)
    assert found == path
    assert words in text
    assert '"x' in text


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"type": "integer", "default": "5"}, "would refuse its own default '5': expected an integer"),
        ({"type": "integer", "default": True}, "expected an integer"),
        ({"type": "string", "default": 5}, "expected a string"),
        ({"type": "string", "default": ""}, 'allow empty strings with "len_min": 0'),
        ({"type": "string", "one_of": ["a"], "default": "b"}, "expected one of: a"),
        ({"type": "boolean", "default": "true"}, "expected a boolean"),
        ({"type": "array", "elements": {"type": "string"}, "default": "a"}, "expected an array"),
        ({"type": "array", "elements": {"type": "string"}, "default": ["a", 1]}, "(x.2: expected a string)"),
        ({"type": "record", "fields": [{"a": {"type": "string"}}], "default": {"b": 1}}, "(x.b: unknown field)"),
    ],
)
def test_default_that_its_own_field_refuses(field, words):
    [(path, text)] = field_faults(**field)
    assert path == ("default",)
    assert words in text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (len, "the function len"),
        (lambda value: value, "the function <lambda>"),
        (str, "the class str"),
        ({1, 2}, "a set"),
        (b"x", "a bytes"),
        (object(), "a object"),
        (float("nan"), "the number nan"),
        (float("inf"), "the number inf"),
    ],
)
def test_values_that_json_cannot_carry(value, words):
    [(path, text)] = field_faults(type="array", elements={"type": "string"}, default=[value])
    assert path == ("default", 0)
    assert f'Schema holds {words} at "x.default", which JSON cannot carry; ' in text


def test_lone_surrogate():
    [(path, text)] = field_faults(type="string", one_of=["\udcff"])
    assert path == ("one_of", 0)
    assert "not valid Unicode" in text


def test_schema_that_holds_itself():
    field: dict[str, object] = {"type": "record", "fields": []}
    field["fields"] = [{"inner": field}]
    [(_, text)] = faults({"x": field})
    assert "Schema holds itself" in text


def test_one_definition_may_be_used_twice():
    shared = {"type": "string"}
    assert faults({"a": shared}, {"b": shared}, {"c": {"type": "array", "elements": shared}}) == []


def test_field_twice():
    [(path, text)] = faults({"a": {"type": "string"}}, {"a": {"type": "number"}})
    assert path == (1, "a")
    assert "twice" in text


def test_every_fault_is_listed():
    found = faults("x", {"a": {"type": "x", "y": 1}}, {"b": {"type": "array"}}, {"c": {"type": "string", "z": len}})
    assert [path for path, _ in found] == [(3, "c", "z"), (0,), (1, "a", "type"), (1, "a", "y"), (2, "b")]
