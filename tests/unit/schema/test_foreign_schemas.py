"""Schemas in the words and forms of JSON Schema and of Kong's Lua: each message has a hint that Kong accepts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from kong_pdk.plugin import PluginError, Source, load
from kong_pdk.schema.definition import check_schema
from kong_pdk.schema.foreign_attributes import translate
from kong_pdk.schema.lua import Pattern

PLUGIN = """
class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        pass
"""


def hints(field: dict[str, Any]) -> dict[int | str, str]:
    """Give the hint for each part of a field's definition; the hint for the definition itself has the field's name."""
    return {fault.path[-1]: str(fault.hint) for fault in check_schema([{"x": field}])[1]}


@pytest.mark.parametrize(
    ("field", "word", "hint"),
    [
        ({"type": "integer", "min": 1, "max": 10}, "min", 'write "between": [1, 10]'),
        ({"type": "integer", "min": 1, "max": 10, "title": "Number of workers"}, "min",
         'write "description": "Number of workers", "between": [1, 10]'),
        ({"type": "number", "minimum": 0.5, "maximum": 1.5}, "minimum", 'write "between": [0.5, 1.5]'),
        ({"type": "integer", "ge": 1, "le": 10}, "ge", 'write "between": [1, 10]'),
        ({"type": "integer", "minimum": 1}, "minimum", 'write "gt": 0'),
        ({"type": "integer", "maximum": 9}, "maximum",
         'write "between": [0, 9], with the least number that is allowed first'),
        ({"type": "integer", "maximum": -2}, "maximum",
         'write "between": [-2, -2], with the least number that is allowed first'),
        ({"type": "number", "exclusiveMinimum": 0}, "exclusiveMinimum", 'write "gt": 0'),
        ({"type": "string", "min": 1, "max": 5}, "min", 'write "len_min": 1, "len_max": 5'),
        ({"type": "string", "minLength": 1}, "minLength", 'write "len_min": 1'),
        ({"type": "string", "max_length": 9}, "max_length", 'write "len_max": 9'),
        ({"type": "string", "min": "1"}, "min",
         'write numbers: "between": [1, 10], or "len_min": 1 for a value with a length'),
        ({"type": "string", "enum": ["a", "b"]}, "enum", 'write "one_of": ["a", "b"]'),
        ({"type": "string", "choices": ("a", "b")}, "choices", 'write "one_of": ["a", "b"]'),
        ({"type": "string", "oneOf": ["a"]}, "oneOf", 'write "one_of": ["a"]'),
        ({"enum": ["a", "b"]}, "enum", 'write "type": "string", "one_of": ["a", "b"]'),
        ({"enum": [1, 2]}, "enum", 'write "type": "number", "one_of": [1, 2]'),
        ({"type": "boolean", "enum": [True]}, "enum", "remove it: a boolean is True or False"),
        ({"type": "string", "values": ["a"]}, "values", 'only map can; write "one_of": ["a"]'),
        ({"type": "array", "enum": ["a"]}, "enum", 'write "elements": {"type": "string", "one_of": ["a"]}'),
        ({"type": "string", "const": "a"}, "const", 'write "eq": "a"'),
        ({"type": "list", "items": {"type": "str"}}, "items", 'write "type": "array", "elements": {"type": "string"}'),
        ({"type": "array", "items": "integer"}, "items", 'write "elements": {"type": "integer"}'),
        ({"type": "array"}, "x", 'add "elements": {"type": "string"}'),
        ({"type": "array", "elements": {"type": "string"}, "uniqueItems": True}, "uniqueItems", 'write "type": "set"'),
        ({"type": "array", "elements": {"type": "string"}, "minItems": 2}, "minItems", 'write "len_min": 2'),
        ({"type": "object", "properties": {"a": {"type": "str"}}}, "properties",
         'write "type": "record", "fields": [{"a": {"type": "string"}}]'),
        ({"type": "record", "fields": [], "properties": {}, "required": ["a", "b"]}, "required",
         'write "required": True in the definition of each of "a", "b"'),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "additionalProperties",
         'write "type": "map", "keys": {"type": "string"}, "values": {"type": "integer"}'),
        ({"type": "map", "additionalProperties": {"type": "integer"}}, "additionalProperties",
         'write "keys": {"type": "string"}, "values": {"type": "integer"}'),
        ({"type": "string", "desc": "The zone's id"}, "desc", 'write "description": "The zone\'s id"'),
        ({"type": "record", "fields": {"a": {"type": "int"}, "b": {"type": "string"}}}, "fields",
         'write "fields": [{"a": {"type": "integer"}}, {"b": {"type": "string"}}]'),
        ({"type": "record", "fields": "a"}, "fields", 'write "fields": [{"name": {"type": "string"}}]'),
        ({"type": "set", "elements": {"type": "string"}, "uniqueItems": True}, "uniqueItems",
         "remove it: a set has no value twice, and an array may"),
        ({"type": "string", "mandatory": False}, "mandatory", "remove it: it changes nothing here"),
        ({"type": str}, "type", 'write "string"'),
        ({"type": "record", "fields": [], "additionalProperties": False}, "additionalProperties",
         "remove it: a record has no other fields than those named, and a map takes any key"),
        ({"type": "string", "pattern": r"^\d+\.[\w-]x-y$"}, "pattern",
         r'write "match": "^%d+%.[%w_-]x%-y$", a Lua pattern'),
        ({"type": "string", "pattern": "^(a|b)$"}, "pattern",
         'write "match": "^%d+$", a Lua pattern, which has neither | nor {n}; or check the value in Plugin.__init__'),
        ({"type": "string", "regex": "^a{2}$"}, "regex",
         'write "match": "^%d+$", a Lua pattern, which has neither | nor {n}; or check the value in Plugin.__init__'),
        ({"type": "string", "format": "uuid"}, "format", 'write "type": "string", "uuid": True'),
        ({"type": "string", "format": "email"}, "format",
         "Kong has nothing like it; check the value in Plugin.__init__"),
        ({"type": "string", "nullable": True}, "nullable",
         'remove it: a field may be left out unless it has "required": True'),
        ({"type": "string", "optional": True}, "optional",
         'remove it: a field may be left out unless it has "required": True'),
        ({"type": "string", "optional": False}, "optional", 'write "required": True'),
        ({"type": ["string", "null"]}, "type",
         'write "type": "string": a field may be left out unless it is required'),
        ({"type": "string", "title": "The zone's id"}, "title", 'write "description": "The zone\'s id"'),
        ({"type": "string", "description": "Zone id"}, "description",
         "describe the field in a few words, or remove it"),
        ({"type": "string", "required": "true"}, "required", 'write "required": True'),
        ({"type": "string", "required": 0}, "required", 'write "required": False'),
        ({"type": "string", "secret": True}, "secret", 'write "referenceable": True, "encrypted": True'),
        ({"$ref": "#/definitions/x"}, "$ref", "write the definition out in its place"),
        ({"anyOf": [{"type": "string"}]}, "anyOf",
         'use "entity_checks" of the record around the field, for example [{"at_least_one_of": ["a", "b"]}]'),
        ({"type": "port"}, "type", 'write "type": "integer", "between": [0, 65535]'),
        ({"type": "typedefs.url"}, "type", 'write "type": "string", "match": "^https?://"'),
        ({"type": "integer", "len_min": 1, "len_max": 5}, "len_min",
         'only array, set, string, map can; write "between": [1, 5]'),
        ({"type": "string", "between": [1, 5]}, "between",
         'only integer, number can; write "len_min": 1, "len_max": 5 for its length'),
        ({"type": "set", "elements": {"type": "string"}, "one_of": ["a"]}, "one_of",
         'only string, integer, number can; write it in the definition of the elements: '
         '"elements": {"type": "string", "one_of": ["a"]}'),
    ],
)  # fmt: skip
def test_a_foreign_word_has_kong_s_word_in_its_hint(field: dict[str, Any], word: str, hint: str) -> None:
    assert hints(field)[word] == hint


@pytest.mark.parametrize(
    ("field", "message", "hint"),
    [
        ({"type": "array", "items": {"type": "string"}, "uniqueItems": True},
         'has the unknown attributes "items", "uniqueItems"', 'write "type": "set", "elements": {"type": "string"}'),
        ({"type": "map", "additionalProperties": {"type": "bool"}},
         'has the unknown attribute "additionalProperties"',
         'write "keys": {"type": "string"}, "values": {"type": "boolean"}'),
        ({"type": "object", "properties": {"a": {"type": "string"}}},
         "has the unknown type 'object' and the unknown attribute \"properties\"",
         'write "type": "record", "fields": [{"a": {"type": "string"}}]'),
        ({"type": "list", "items": {"type": "str"}, "minItems": 1},
         "has the unknown type 'list' and the unknown attributes \"items\", \"minItems\"",
         'write "type": "array", "elements": {"type": "string"}, "len_min": 1'),
        ({"type": "string", "minLength": 1, "maxLength": 3}, 'has the unknown attributes "minLength", "maxLength"',
         'write "len_min": 1, "len_max": 3'),
        ({"enum": ["a"]}, 'has the unknown attribute "enum"', 'write "type": "string", "one_of": ["a"]'),
    ],
)  # fmt: skip
def test_words_that_are_replaced_together_are_one_mistake(field: dict[str, Any], message: str, hint: str) -> None:
    [fault] = check_schema([{"x": field}])[1]
    assert (fault.message, fault.hint) == (f'Schema field "x" {message}', hint)


def test_a_mistake_beside_foreign_words_is_named_too() -> None:
    field = {"type": "map", "title": "A table", "values": {"type": "string"}, "required": "yes"}
    assert [fault.message for fault in check_schema([{"x": field}])[1]] == [
        'Schema field "x" has the unknown attribute "title"',
        'Schema field "x": "required" must be True or False',
    ]


@pytest.mark.parametrize(
    "field",
    [
        {"type": "int", "minimum": 1, "maximum": 5},
        {"type": "integer", "minimum": 5},
        {"type": "number", "maximum": 5, "title": "x"},
        {"type": "string", "minLength": 1, "maxLength": 5, "nullable": True, "format": "email"},
        {"enum": ["a", "b"]},
        {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "int"}}, "required": ["a"]}},
        {"type": "array", "uniqueItems": True, "enum": ["a"]},
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "bool"}}},
        {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"enum": [1]}}}}},
        {"type": "url", "example": "http://a"},
        {"type": ["number", "null"], "exclusiveMinimum": 0},
    ],
)
def test_the_hints_are_accepted(field: dict[str, Any]) -> None:
    assert check_schema([{"x": translate(field)}])[1] == []


@pytest.mark.parametrize(
    ("regex", "texts"),
    [
        (r"^\d+\.\d+$", ["1.2", "12.3", "a.b", "1-2", ""]),
        (r"^[\w.-]+@[a-z]+-x$", ["a_b.c-d@q-x", "a@q-x", "@q-x", "a b@q-x"]),
        (r"^a?\s*[^\d\]]$", ["a z", "z", "a 1", "]"]),
        (r"\S\D", ["a b", "ab", "1", " a"]),
    ],
)
def test_a_regular_expression_becomes_an_equal_pattern(regex: str, texts: list[str]) -> None:
    hint = hints({"type": "string", "pattern": regex})["pattern"]
    pattern = json.loads(hint.removeprefix('write "match": ').removesuffix(", a Lua pattern"))
    for text in texts:
        assert Pattern(pattern).matches(text) == (re.search(regex, text) is not None), text


@pytest.mark.parametrize(
    "regex", ["a|b", "(ab)+", "a{2}", r"\bx", r"[\W]", r"\W", ".*?x", "100%", r"\x41", "[", r"[\b]"]
)
def test_a_regular_expression_without_an_equal_pattern(regex: str) -> None:
    assert "which has neither | nor {n}" in hints({"type": "string", "pattern": regex})["pattern"]


@pytest.mark.parametrize("value", [None, True, "x", 5, [], {}, [[]], {"x": {}}])
@pytest.mark.parametrize(
    "word",
    [
        "type",
        "enum",
        "items",
        "properties",
        "additionalProperties",
        "pattern",
        "format",
        "min",
        "title",
        "oneOf",
        "const",
    ],
)
def test_any_value_is_a_fault_with_a_hint(word: str, value: object) -> None:
    assert all(hint and hint != "None" for hint in hints({word: value}).values())


@pytest.mark.parametrize(
    ("schema", "hint"),
    [
        ({"message": {"type": "str"}}, 'Schema = [{"message": {"type": "string"}}]'),
        ({"a": {"type": "string"}, "b": {"type": "integer"}},
         'Schema = [{"a": {"type": "string"}}, {"b": {"type": "integer"}}]'),
        ('[{"message": {"type": "string"}}]', 'Schema = [{"message": {"type": "string"}}]'),
        ({"name": "x", "fields": [{"a": {"type": "array"}}]},
         'Schema = [{"a": {"type": "array", "elements": {"type": "string"}}}]'),
        ({"name": "x", "fields": [{"protocols": "typedefs.x"}, {"config": {"fields": [{"u": {"type": "url"}}]}}]},
         'Schema = [{"u": {"type": "string", "match": "^https?://"}}]'),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
         'Schema = [{"a": {"type": "string", "required": True}}]'),
        ({f"field{n}": {"type": "string"} for n in range(20)}, 'Schema = [{"field0": {"type": "string"}}, ...]'),
    ],
)  # fmt: skip
def test_a_schema_in_another_form_has_the_right_form_in_its_hint(schema: object, hint: str) -> None:
    [fault] = check_schema(schema)[1]
    assert fault.hint == f"write a list of one-key dicts: {hint}"


@pytest.mark.parametrize(
    ("item", "hint"),
    [
        ({"name": "a", "type": "int"}, 'write {"a": {"type": "integer"}}'),
        ({"a": {"type": "string"}, "b": {"type": "string"}},
         'write a list of one-key dicts: Schema = [{"a": {"type": "string"}}, {"b": {"type": "string"}}]'),
        ({"name": "x", "fields": [{"config": {"type": "record", "fields": [{"u": {"type": "string"}}]}}]},
         'write a list of one-key dicts: Schema = [{"u": {"type": "string"}}]'),
        ({"u": "typedefs.url"}, 'write {"type": "string", "match": "^https?://"}'),
        ({"u": "integer"}, 'write {"type": "integer"}'),
        ({"u": "whatever"}, 'write {"type": "string"}'),
    ],
)  # fmt: skip
def test_an_item_in_another_form_has_the_right_form_in_its_hint(item: object, hint: str) -> None:
    [fault] = check_schema([item])[1]
    assert fault.hint == hint


def messages(tmp_path: Path, schema: str) -> list[str]:
    file = tmp_path / "mine.py"
    file.write_text(f"Schema = {schema}\n{PLUGIN}")
    try:
        load(Source("mine", file))
    except PluginError as error:
        return [str(problem).removeprefix(f"{file}:") for problem in error.problems]
    return []


def test_the_fields_of_a_schema_lua_are_refused_by_line(tmp_path: Path) -> None:
    schema = """[
    {"consumer": {"type": "foreign", "reference": "consumers", "eq": None}},
    {"protocols": {"type": "set", "elements": {"type": "string"}, "default": ["http", "https"]}},
    {"config": {"type": "record", "fields": [{"url": {"type": "string", "required": True}}]}},
]"""
    assert messages(tmp_path, schema) == [
        '2: Schema has the field "consumer" of a schema.lua, which does not belong to the configuration; remove it; a '
        "handler gets the consumer by kong.client.get_consumer()",
        '3: Schema has the field "protocols" of a schema.lua, which does not belong to the configuration; remove it; '
        'set "protocols" in the plugin\'s entry, in kong.yml or by the Admin API',
        '4: Schema has the record "config" of a schema.lua, which Kong adds by itself; write only its fields: '
        'Schema = [{"url": {"type": "string", "required": True}}]',
    ]


@pytest.mark.parametrize(
    "schema",
    [
        '[{"config": {"type": "string"}}, {"protocols": {"type": "string"}}, {"name": {"type": "string"}}]',
        '[{"protocols": {"type": "set", "elements": {"type": "string", "one_of": ["TLSv1.2", "TLSv1.3"]}}}]',
        '[{"config": {"type": "record", "fields": [{"a": {"type": "string"}}]}}, {"url": {"type": "string"}}]',
        '[{"service": {"type": "string"}}, {"consumer": {"type": "string"}}]',
        '[{"inner": {"type": "record", "fields": [{"route_id": {"type": "string"}}]}}]',
    ],
)
def test_the_author_s_fields_may_have_such_names(schema: str, tmp_path: Path) -> None:
    assert messages(tmp_path, schema) == []


@pytest.mark.parametrize("name", ["route_id", "service_id", "consumer_id", "plugin_instance_name"])
def test_a_field_that_kong_overwrites_is_refused_by_line(name: str, tmp_path: Path) -> None:
    [message] = messages(tmp_path, f'[{{"zone_id": {{"type": "string"}}}},\n    {{"{name}": {{"type": "string"}}}}]')
    assert message.startswith(
        f'2: Schema field "{name}" never has the user\'s value: Kong puts its own there, or none; choose another name, '
        f'such as "my_{name}" (kong.'
    )


def test_the_fields_of_a_schema_lua_are_refused_beside_other_fields(tmp_path: Path) -> None:
    schema = """[
    {"url": {"type": "string"}},
    {"consumer": {"type": "foreign", "reference": "consumers"}},
    {"protocols": {"type": "set", "elements": {"type": "string"}}},
    {"config": {"type": "record", "fields": [{"x": {"type": "string"}}]}},
    {"entity_checks": [{"at_least_one_of": ["a"]}]},
]"""
    assert [message.partition(";")[0] for message in messages(tmp_path, schema)] == [
        '6: Schema has "entity_checks" among the fields',
        '3: Schema has the field "consumer" of a schema.lua, which does not belong to the configuration',
        '4: Schema has the field "protocols" of a schema.lua, which does not belong to the configuration',
        '5: Schema has the record "config" of a schema.lua, which Kong adds by itself',
    ]


def test_checks_among_the_fields_of_a_record(tmp_path: Path) -> None:
    schema = '[{"a": {"type": "record", "fields": [{"entity_checks": [{"at_least_one_of": ["b"]}]}]}}]'
    [message] = messages(tmp_path, schema)
    assert message.endswith('write it beside "fields", in the definition of "a"')


@pytest.mark.parametrize(
    ("field", "warning"),
    [
        (
            '{"config": {"type": "record", "fields": [{"a": {"type": "string"}}]}}',
            'Schema has a record "config" inside the configuration, so that users write config.config.a; write its '
            "fields beside the others, unless this is meant",
        ),
        (
            '{"protocols": {"type": "set", "elements": {"type": "string"}}}',
            'Schema field "protocols" is part of the configuration: Kong ignores it; set "protocols" in the '
            "plugin's entry, in kong.yml or by the Admin API, or choose another name",
        ),
    ],
)
def test_a_field_that_belongs_to_the_plugin_s_entry_gives_a_warning(field: str, warning: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f'Schema = [\n    {{"url": {{"type": "string"}}}},\n    {field},\n]\n{PLUGIN}')
    assert load(Source("mine", file)).warnings == (f"{file}:3: {warning}",)
