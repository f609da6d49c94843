"""The words of JSON Schema, Python's validators and Kong's schema.lua, and what Kong's schema has in their place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kong_pdk.schema.lua import Pattern

_LARGEST = 2**53

TYPES = {
    **dict.fromkeys(("str", "text", "char", "varchar", "bytes", "date", "datetime", "date-time", "email"), "string"),
    **dict.fromkeys(("int", "long", "int32", "int64", "uint", "count"), "integer"),
    **dict.fromkeys(("float", "double", "decimal", "real", "numeric"), "number"),
    **dict.fromkeys(("bool", "flag", "switch"), "boolean"),
    **dict.fromkeys(("list", "tuple", "sequence", "vector"), "array"),
    **dict.fromkeys(("dict", "mapping", "hash"), "map"),
    **dict.fromkeys(("object", "struct", "model", "nested"), "record"),
    "frozenset": "set",
}
"""A type of another language -> Kong's."""

# Definitions of Kong's kong.db.schema.typedefs, which only Lua has.
_TYPEDEFS: Mapping[str, Mapping[str, Any]] = {
    **{name: {"type": "string"} for name in ("host", "hostname", "ip", "ip_or_cidr", "sni", "tag", "any")},
    **{name: {"type": "string", "match": "^https?://"} for name in ("url", "uri")},
    "path": {"type": "string", "starts_with": "/"},
    "port": {"type": "integer", "between": [0, 65535]},
    "timeout": {"type": "integer", "between": [0, 2147483646]},
    "uuid": {"type": "string", "uuid": True},
    "regex": {"type": "string", "is_regex": True},
    "header_name": {"type": "string", "match": "^[%w_-]+$"},
    "http_method": {"type": "string", "match": "^%u+$"},
    "methods": {"type": "set", "elements": {"type": "string", "match": "^%u+$"}},
    "tags": {"type": "set", "elements": {"type": "string"}},
    "json": {"type": "string", "description": "A JSON text."},
    "enum": {"type": "string", "one_of": ["a", "b"]},
    **{name: {"type": "string", "referenceable": True, "encrypted": True} for name in ("secret", "password")},
    "table": {"type": "map", "keys": {"type": "string"}, "values": {"type": "string"}},
}

_LOWEST = ("min", "minimum", "ge", "gte", "min_value", "minValue")
_HIGHEST = ("max", "maximum", "le", "lte", "max_value", "maxValue")
_SHORTEST = ("minLength", "min_length", "minItems", "min_items", "minProperties", "min_len", "minlen", "minlength")
_LONGEST = ("maxLength", "max_length", "maxItems", "max_items", "maxProperties", "max_len", "maxlen", "maxlength")
_OPTIONS = ("enum", "choices", "options", "allowed", "allowed_values", "valid_values", "literal")
_ELEMENTS = ("items", "item", "element", "prefixItems", "elem")
_FIELDS = ("properties", "props", "children", "attributes", "schema")
_PATTERNS = ("pattern", "regex", "regexp")
_TEXTS = (
    "desc",
    "descr",
    "title",
    "label",
    "help",
    "help_text",
    "doc",
    "docs",
    "comment",
    "$comment",
    "summary",
    "info",
)
_SECRETS = ("secret", "sensitive", "password", "writeOnly")
_SIZES = (*_LOWEST, *_HIGHEST, *_SHORTEST, *_LONGEST)
_IN_INIT = "Kong has nothing like it; check the value in Plugin.__init__"
_NO_WORDS: Mapping[str, str] = {
    "format": _IN_INIT,
    "multipleOf": _IN_INIT,
    "validator": _IN_INIT,
    "validate": _IN_INIT,
    "additionalProperties": "remove it: a record has no other fields than those named, and a map takes any key",
    "patternProperties": "use a map, whose keys may have a match: "
    '"type": "map", "keys": {"type": "string", "match": "^x%-"}, "values": {"type": "string"}',
    "nullable": 'remove it: a field may be left out unless it has "required": True',
    "uniqueItems": "remove it: a set has no value twice, and an array may",
    "readOnly": "remove it: Kong's configuration has nothing like it",
    "deprecated": 'write "deprecation": {"message": "use x", "removal_in_version": "4.0"}',
    **dict.fromkeys(
        ("allOf", "anyOf", "not", "if", "then", "else", "dependentRequired", "dependencies"),
        'use "entity_checks" of the record around the field, for example [{"at_least_one_of": ["a", "b"]}]',
    ),
    **dict.fromkeys(("$ref", "$schema", "$id", "$defs", "definitions"), "write the definition out in its place"),
}


def attribute_hint(name: str, field: Mapping[str, Any]) -> str | None:
    """Say what to write in the place of an attribute that Kong does not know; None where it is nobody's word."""
    value = field[name]
    if name in ("optional", "nullable") and isinstance(value, bool):
        return 'write "required": True' if name == "optional" and not value else _NO_WORDS["nullable"]
    special = _special(name, value, field)
    if special is not None:
        return special
    return _NO_WORDS.get(name) or ("remove it: it changes nothing here" if name in _WORDS else None)


@dataclass(frozen=True)
class Translation:
    """Words of a field's definition that have Kong's in their place, and the attributes that replace all of them."""

    words: tuple[str, ...]
    attributes: Mapping[str, Any]
    hint: str


def translation(field: Mapping[str, Any]) -> Translation | None:
    """Find the words of others in a definition; None where it has none, or none that can be translated."""
    words = tuple(name for name in field if _is_translated(name, field))
    translated = translate(field)
    changed = {key: each for key, each in translated.items() if key not in field or field[key] != each}
    if not words or not changed:
        return None
    only_highest = set(words).intersection(_HIGHEST) and "between" in changed and _number(field, _LOWEST) is None
    hint = f"write {attributes_text(changed)}{', with the least number that is allowed first' if only_highest else ''}"
    return Translation(words, changed, hint)


def _is_translated(name: str, field: Mapping[str, Any]) -> bool:
    if name == "additionalProperties":
        return isinstance(field[name], dict) and _type(field) == "map"
    return name in _WORDS and _special(name, field[name], field) is None


def _special(name: str, value: Any, field: Mapping[str, Any]) -> str | None:  # noqa: PLR0911  # a case each
    if name in _SIZES and _number(field, [name]) is None:
        return 'write numbers: "between": [1, 10], or "len_min": 1 for what has a length'
    if name in _OPTIONS and _type(field) == "boolean":
        return "remove it: a boolean is True or False"
    if name in _PATTERNS:
        if isinstance(value, str) and (pattern := _lua_pattern(value)) is not None:
            return f'write "match": {json.dumps(pattern)}, a Lua pattern'
        return (
            'write "match": "^%d+$", a Lua pattern, which has neither | nor {n}; or check the value in Plugin.__init__'
        )
    if name == "oneOf" and isinstance(value, list) and not all(isinstance(each, str | int | float) for each in value):
        return _NO_WORDS["anyOf"]
    if name == "format":
        known = _TYPEDEFS.get(str(value))
        return f"write {attributes_text(known)}" if known and len(known) > 1 else None
    return None


def _lua_pattern(regex: str) -> str | None:
    """Write a simple regular expression as a pattern of Lua; None for one that Lua has no pattern for."""
    made = []
    for part in re.findall(r"\\.|\[(?:\\.|[^\]\\])*\]|[*+?]\?|.", regex, re.DOTALL):
        inner = [part] if part[0] != "[" else re.findall(r"\\.|.", part[1:-1], re.DOTALL)
        if part in _NOT_OF_LUA or any(each[0] == "\\" and each[1].isalnum() and each not in _CLASSES for each in inner):
            return None
        if part[0] != "[":
            made.append(_in_lua(part) if part[0] == "\\" else "%-" if part == "-" else part)
        else:
            made.append(f"[{''.join('%w_' if each == _WORD else _in_lua(each) for each in inner)}]")
    pattern = "".join(made)
    try:
        Pattern(pattern)
    except ValueError:
        return None
    return pattern


def _in_lua(part: str) -> str:
    return _CLASSES.get(part, f"%{part[1:]}" if part[0] == "\\" else part)


_NOT_OF_LUA = ("|", "(", ")", "{", "}", "%", "*?", "+?", "??", r"\W")
_WORD = r"\w"
_CLASSES = {r"\d": "%d", _WORD: "[%w_]", r"\s": "%s", r"\D": "%D", r"\S": "%S"}


def type_hint(field: Mapping[str, Any]) -> str | None:
    """Say what to write in the place of a type that Kong does not know; None where it is nobody's."""
    kind = field.get("type")
    if isinstance(kind, list) and len(known := [each for each in kind if each != "null"]) == 1:
        return f'write "type": "{TYPES.get(str(known[0]), known[0])}": a field may be left out unless it is required'
    if not isinstance(kind, str):
        return None
    word = kind.lower()
    if word in TYPES:
        return f'did you mean "{_type(field) or TYPES[word]}"?'
    definition = _TYPEDEFS.get(word.removeprefix("typedefs."))
    return f"write {attributes_text(definition)}" if definition else None


def misplaced_hint(name: str, field: Mapping[str, Any]) -> str | None:
    """Say what to write in the place of an attribute that the field's type cannot have; None for none like it."""
    kind, value = field.get("type"), field[name]
    if name == "values" and isinstance(value, list):
        return f"write {attributes_text(_one_of(value, field))}"
    if kind in ("array", "set") and isinstance(field.get("elements"), dict):
        return f'write it in the definition of the elements: "elements": {written({**field["elements"], name: value})}'
    if kind in ("integer", "number") and name in ("len_min", "len_max"):
        low, high = field.get("len_min", 0), field.get("len_max", 100)
        return f"write {attributes_text({'between': [low, high]})}"
    if kind == "string" and name == "between" and isinstance(value, list) and len(value) == 2:
        return f"write {attributes_text({'len_min': value[0], 'len_max': value[1]})} for its length"
    return None


def value_hint(name: str, value: object) -> str | None:
    """Say what to write in the place of an attribute's value; None where its message says it."""
    if name == "required" and isinstance(value, list) and value:
        return f'write "required": True in the definition of each of {", ".join(map(written, value))}'
    if str(value).lower() in ("true", "yes", "on", "1"):
        return f'write "{name}": True'
    if str(value).lower() in ("false", "no", "off", "0"):
        return f'write "{name}": False'
    if name == "description":
        return "describe the field in a few words, or remove it"
    return None


def typedef_hint(definition: object) -> str | None:
    """Say what to write in the place of the name of one of Lua's definitions, ``"typedefs.url"``."""
    if not isinstance(definition, str):
        return None
    known = _TYPEDEFS.get(definition.removeprefix("typedefs."))
    word = TYPES.get(definition, definition)
    if known is None and word in {*TYPES.values(), "foreign"}:
        known = {"type": word}
    return f"write {written(known)}" if known else None


def translate(field: Mapping[str, Any]) -> dict[str, Any]:
    """Give a field's definition in Kong's words, as far as they are known."""
    made: dict[str, Any] = {key: value for key, value in field.items() if key not in _WORDS and key not in _NO_WORDS}
    kind = _type(field)
    if kind is not None:
        made.update(_TYPEDEFS.get(kind.removeprefix("typedefs."), {"type": kind}))
    values = field.get("additionalProperties")
    if kind == "map" and isinstance(values, dict):
        made.update({"keys": made.get("keys", {"type": "string"}), "values": translate(values)})
    for key, value in field.items():
        if key in _WORDS and key not in _SIZES:
            made.update(_WORDS[key](value, field))
    _translate_sizes(field, made)
    if made.get("type") in ("array", "set"):
        made.setdefault("elements", {"type": "string"})
    elif made.get("type") == "map":
        made.setdefault("keys", {"type": "string"})
        made.setdefault("values", {"type": "string"})
    elif made.get("type") == "record" and not isinstance(made.get("fields"), list):
        made["fields"] = []
    return made


def _type(field: Mapping[str, Any]) -> str | None:
    kind = field.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), None)
    if isinstance(kind, type):
        kind = kind.__name__
    known = TYPES.get(str(kind), kind) if isinstance(kind, str) else None
    if any(word in field for word in _FIELDS):
        return "record"
    if kind in ("object", "dict") and not isinstance(field.get("fields"), list):
        return "map"
    if any(word in field for word in _ELEMENTS):
        return "set" if field.get("uniqueItems") else "array" if known not in ("array", "set") else known
    if field.get("uniqueItems") and known == "array":
        return "set"
    if known is None and (words := [word for word in _OPTIONS if word in field]):
        options = _options(field[words[0]])
        return "number" if options and not any(isinstance(each, str) for each in options) else "string"
    return known


def _translate_sizes(field: Mapping[str, Any], made: dict[str, Any]) -> None:
    lowest, highest = _number(field, _LOWEST), _number(field, _HIGHEST)
    if made.get("type") in ("string", "array", "set", "map"):
        shortest, longest = _number(field, _SHORTEST), _number(field, _LONGEST)
        sizes = {
            "len_min": lowest if shortest is None else shortest,
            "len_max": highest if longest is None else longest,
        }
        made.update({name: size for name, size in sizes.items() if size is not None})
    elif lowest is not None or highest is not None:
        low = min(0, highest or 0) if lowest is None else lowest
        if highest is None and made.get("type") == "integer":
            made["gt"] = low - 1
        else:
            made["between"] = [low, max(_LARGEST, low) if highest is None else highest]


def _number(field: Mapping[str, Any], words: Sequence[str]) -> int | float | None:
    found = next((field[word] for word in words if word in field), None)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def fields_of(value: Any, around: Mapping[str, Any]) -> dict[str, Any]:
    """Make the fields of a record of a dict of definitions, or of a list of them that have their names inside."""
    required = around.get("required")
    names = required if isinstance(required, list) else []
    made = []
    for name, definition in value.items() if isinstance(value, dict) else ():
        inner = translate(definition) if isinstance(definition, dict) else {"type": "string"}
        made.append({str(name): {**inner, "required": True} if name in names else inner})
    return {"fields": made, **({} if not isinstance(required, list) else {"required": True})}


def _elements(value: Any, _: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(value, str):
        return {"elements": {"type": TYPES.get(value, value)}}
    return {"elements": translate(value) if isinstance(value, dict) else {"type": "string"}}


def _options(value: Any) -> list[Any]:
    fit = isinstance(value, list | tuple) and all(isinstance(each, str | int | float) for each in value)
    return list(value) if fit else []


def _one_of(value: Any, field: Mapping[str, Any]) -> dict[str, Any]:
    options = {"one_of": _options(value) or ["a", "b"]}
    if _type(field) in ("array", "set"):
        return {"elements": {"type": "string", **options}}
    return options


def _description(value: Any, _: Mapping[str, Any]) -> dict[str, Any]:
    fits = isinstance(value, str) and 10 <= len(value.encode(errors="replace")) <= 500
    return {"description": value if fits else "What the field is for."}


_Word = Callable[[Any, Mapping[str, Any]], dict[str, Any]]
_WORDS: Mapping[str, _Word] = {
    **dict.fromkeys(_SIZES, lambda value, field: {}),
    **dict.fromkeys((*_OPTIONS, "oneOf"), _one_of),
    **dict.fromkeys(_ELEMENTS, _elements),
    **dict.fromkeys(_FIELDS, fields_of),
    **dict.fromkeys(_TEXTS, _description),
    **dict.fromkeys(_SECRETS, lambda value, field: {"referenceable": True, "encrypted": True} if value else {}),
    **dict.fromkeys(("exclusiveMinimum", "greater_than"), lambda value, field: {"gt": value}),
    **dict.fromkeys(
        ("exclusiveMaximum", "lt", "less_than"),
        lambda value, field: {"between": [0, value - 1 if isinstance(value, int) else value]},
    ),
    "const": lambda value, field: {"eq": value},
    "example": lambda value, field: {"examples": [value]},
    "uniqueItems": lambda value, field: {},
    "default_value": lambda value, field: {"default": value},
    "mandatory": lambda value, field: {"required": True} if value else {},
}


def attributes_text(attributes: Mapping[str, Any]) -> str:
    return ", ".join(f"{json.dumps(key)}: {written(value)}" for key, value in attributes.items())


def written(value: Any) -> str:
    """Write plain data as Python has it, with double quotes."""
    if isinstance(value, Mapping):
        return f"{{{attributes_text(value)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return value.__name__ if isinstance(value, type) else repr(value)
