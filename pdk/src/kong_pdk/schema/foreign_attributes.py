"""Translates attributes of JSON Schema, of Python's validators and of schema.lua into Kong's schema language."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kong_pdk.schema.lua import Pattern

_LARGEST_EXACT = 2**53

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
"""Maps the name of a type in another language to Kong's type."""

# Equivalents of the definitions in kong.db.schema.typedefs, which are available only in Lua.
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

_MINIMUM = ("min", "minimum", "ge", "gte", "min_value", "minValue")
_MAXIMUM = ("max", "maximum", "le", "lte", "max_value", "maxValue")
_MIN_LENGTH = ("minLength", "min_length", "minItems", "min_items", "minProperties", "min_len", "minlen", "minlength")
_MAX_LENGTH = ("maxLength", "max_length", "maxItems", "max_items", "maxProperties", "max_len", "maxlen", "maxlength")
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
_SIZES = (*_MINIMUM, *_MAXIMUM, *_MIN_LENGTH, *_MAX_LENGTH)
_CHECK_IN_INIT = "Kong has nothing like it; check the value in Plugin.__init__"
_HINTS: Mapping[str, str] = {
    "format": _CHECK_IN_INIT,
    "multipleOf": _CHECK_IN_INIT,
    "validator": _CHECK_IN_INIT,
    "validate": _CHECK_IN_INIT,
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
    """A hint what to write instead of an unknown attribute; None if it is unknown in other languages too."""
    value = field[name]
    if name in ("optional", "nullable") and isinstance(value, bool):
        return 'write "required": True' if name == "optional" and not value else _HINTS["nullable"]
    special = _special_hint(name, value, field)
    if special is not None:
        return special
    return _HINTS.get(name) or ("remove it: it changes nothing here" if name in _TRANSLATIONS else None)


@dataclass(frozen=True)
class Translation:
    """Foreign attributes of a field's definition (``words``), and the attributes of Kong that replace all of them."""

    words: tuple[str, ...]
    attributes: Mapping[str, Any]
    hint: str


def translation(field: Mapping[str, Any]) -> Translation | None:
    """The translation of the foreign attributes of a definition; None if it has none that can be translated."""
    words = tuple(name for name in field if _is_translated(name, field))
    translated = translate(field)
    changed = {key: value for key, value in translated.items() if key not in field or field[key] != value}
    if not words or not changed:
        return None
    lacks_minimum = set(words).intersection(_MAXIMUM) and "between" in changed and _number(field, _MINIMUM) is None
    hint = f"write {attributes_text(changed)}{', with the least number that is allowed first' if lacks_minimum else ''}"
    return Translation(words, changed, hint)


def _is_translated(name: str, field: Mapping[str, Any]) -> bool:
    if name == "additionalProperties":
        return isinstance(field[name], dict) and _type(field) == "map"
    return name in _TRANSLATIONS and _special_hint(name, field[name], field) is None


def _special_hint(name: str, value: Any, field: Mapping[str, Any]) -> str | None:  # noqa: PLR0911  # a case each
    if name in _SIZES and _number(field, [name]) is None:
        return 'write numbers: "between": [1, 10], or "len_min": 1 for a value with a length'
    if name in _OPTIONS and _type(field) == "boolean":
        return "remove it: a boolean is True or False"
    if name in _PATTERNS:
        if isinstance(value, str) and (pattern := _lua_pattern(value)) is not None:
            return f'write "match": {json.dumps(pattern)}, a Lua pattern'
        return (
            'write "match": "^%d+$", a Lua pattern, which has neither | nor {n}; or check the value in Plugin.__init__'
        )
    if (
        name == "oneOf"
        and isinstance(value, list)
        and not all(isinstance(option, str | int | float) for option in value)
    ):
        return _HINTS["anyOf"]
    if name == "format":
        definition = _TYPEDEFS.get(str(value))
        return f"write {attributes_text(definition)}" if definition and len(definition) > 1 else None
    return None


def _lua_pattern(regex: str) -> str | None:
    """A simple regular expression as a Lua pattern; None if Lua has no pattern for it."""
    parts = []
    for part in re.findall(r"\\.|\[(?:\\.|[^\]\\])*\]|[*+?]\?|.", regex, re.DOTALL):
        characters = [part] if part[0] != "[" else re.findall(r"\\.|.", part[1:-1], re.DOTALL)
        if part in _NOT_IN_LUA or any(
            character[0] == "\\" and character[1].isalnum() and character not in _CLASSES for character in characters
        ):
            return None
        if part[0] != "[":
            parts.append(_lua_escape(part) if part[0] == "\\" else "%-" if part == "-" else part)
        else:
            parts.append(
                f"[{''.join('%w_' if character == _WORD else _lua_escape(character) for character in characters)}]"
            )
    pattern = "".join(parts)
    try:
        Pattern(pattern)
    except ValueError:
        return None
    return pattern


def _lua_escape(part: str) -> str:
    return _CLASSES.get(part, f"%{part[1:]}" if part[0] == "\\" else part)


_NOT_IN_LUA = ("|", "(", ")", "{", "}", "%", "*?", "+?", "??", r"\W")
_WORD = r"\w"
_CLASSES = {r"\d": "%d", _WORD: "[%w_]", r"\s": "%s", r"\D": "%D", r"\S": "%S"}


def type_hint(field: Mapping[str, Any]) -> str | None:
    """A hint what to write instead of an unknown type; None if it is unknown in other languages too."""
    kind = field.get("type")
    if isinstance(kind, list) and len(names := [name for name in kind if name != "null"]) == 1:
        return f'write "type": "{TYPES.get(str(names[0]), names[0])}": a field may be left out unless it is required'
    if not isinstance(kind, str):
        return None
    word = kind.lower()
    if word in TYPES:
        return f'did you mean "{_type(field) or TYPES[word]}"?'
    definition = _TYPEDEFS.get(word.removeprefix("typedefs."))
    return f"write {attributes_text(definition)}" if definition else None


def misplaced_hint(name: str, field: Mapping[str, Any]) -> str | None:
    """A hint what to write instead of an attribute that the field's type cannot have; None if nothing is like it."""
    kind, value = field.get("type"), field[name]
    if name == "values" and isinstance(value, list):
        return f"write {attributes_text(_one_of(value, field))}"
    if kind in ("array", "set") and isinstance(field.get("elements"), dict):
        return (
            f'write it in the definition of the elements: "elements": {python_text({**field["elements"], name: value})}'
        )
    if kind in ("integer", "number") and name in ("len_min", "len_max"):
        low, high = field.get("len_min", 0), field.get("len_max", 100)
        return f"write {attributes_text({'between': [low, high]})}"
    if kind == "string" and name == "between" and isinstance(value, list) and len(value) == 2:
        return f"write {attributes_text({'len_min': value[0], 'len_max': value[1]})} for its length"
    return None


def value_hint(name: str, value: object) -> str | None:
    """A hint what to write instead of an attribute's invalid value; None if the error message says it."""
    if name == "required" and isinstance(value, list) and value:
        return f'write "required": True in the definition of each of {", ".join(map(python_text, value))}'
    if str(value).lower() in ("true", "yes", "on", "1"):
        return f'write "{name}": True'
    if str(value).lower() in ("false", "no", "off", "0"):
        return f'write "{name}": False'
    if name == "description":
        return "describe the field in a few words, or remove it"
    return None


def typedef_hint(definition: object) -> str | None:
    """A hint what to write instead of the name of a definition in Lua, such as ``"typedefs.url"``."""
    if not isinstance(definition, str):
        return None
    translation_of_name = _TYPEDEFS.get(definition.removeprefix("typedefs."))
    word = TYPES.get(definition, definition)
    if translation_of_name is None and word in {*TYPES.values(), "foreign"}:
        translation_of_name = {"type": word}
    return f"write {python_text(translation_of_name)}" if translation_of_name else None


def translate(field: Mapping[str, Any]) -> dict[str, Any]:
    """A field's definition with its foreign attributes translated, as far as a translation is known."""
    translated: dict[str, Any] = {
        key: value for key, value in field.items() if key not in _TRANSLATIONS and key not in _HINTS
    }
    kind = _type(field)
    if kind is not None:
        translated.update(_TYPEDEFS.get(kind.removeprefix("typedefs."), {"type": kind}))
    values = field.get("additionalProperties")
    if kind == "map" and isinstance(values, dict):
        translated.update({"keys": translated.get("keys", {"type": "string"}), "values": translate(values)})
    for key, value in field.items():
        if key in _TRANSLATIONS and key not in _SIZES:
            translated.update(_TRANSLATIONS[key](value, field))
    _translate_sizes(field, translated)
    if translated.get("type") in ("array", "set"):
        translated.setdefault("elements", {"type": "string"})
    elif translated.get("type") == "map":
        translated.setdefault("keys", {"type": "string"})
        translated.setdefault("values", {"type": "string"})
    elif translated.get("type") == "record" and not isinstance(translated.get("fields"), list):
        translated["fields"] = []
    return translated


def _type(field: Mapping[str, Any]) -> str | None:
    kind = field.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), None)
    if isinstance(kind, type):
        kind = kind.__name__
    type_name = TYPES.get(str(kind), kind) if isinstance(kind, str) else None
    if any(word in field for word in _FIELDS):
        return "record"
    if kind in ("object", "dict") and not isinstance(field.get("fields"), list):
        return "map"
    if any(word in field for word in _ELEMENTS):
        return "set" if field.get("uniqueItems") else "array" if type_name not in ("array", "set") else type_name
    if field.get("uniqueItems") and type_name == "array":
        return "set"
    if type_name is None and (words := [word for word in _OPTIONS if word in field]):
        options = _option_list(field[words[0]])
        return "number" if options and not any(isinstance(each, str) for each in options) else "string"
    return type_name


def _translate_sizes(field: Mapping[str, Any], translated: dict[str, Any]) -> None:
    lowest, highest = _number(field, _MINIMUM), _number(field, _MAXIMUM)
    if translated.get("type") in ("string", "array", "set", "map"):
        shortest, longest = _number(field, _MIN_LENGTH), _number(field, _MAX_LENGTH)
        sizes = {
            "len_min": lowest if shortest is None else shortest,
            "len_max": highest if longest is None else longest,
        }
        translated.update({name: size for name, size in sizes.items() if size is not None})
    elif lowest is not None or highest is not None:
        low = min(0, highest or 0) if lowest is None else lowest
        if highest is None and translated.get("type") == "integer":
            translated["gt"] = low - 1
        else:
            translated["between"] = [low, max(_LARGEST_EXACT, low) if highest is None else highest]


def _number(field: Mapping[str, Any], words: Sequence[str]) -> int | float | None:
    value = next((field[word] for word in words if word in field), None)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def record_fields(definitions: Any, record: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a record whose fields are a dict of definitions.

    :param record: the record's own definition; its ``required`` may be a list of field names, as in JSON Schema.
    """
    required = record.get("required")
    names = required if isinstance(required, list) else []
    fields = []
    for name, definition in definitions.items() if isinstance(definitions, dict) else ():
        inner = translate(definition) if isinstance(definition, dict) else {"type": "string"}
        fields.append({str(name): {**inner, "required": True} if name in names else inner})
    return {"fields": fields, **({} if not isinstance(required, list) else {"required": True})}


def _elements(value: Any, _: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(value, str):
        return {"elements": {"type": TYPES.get(value, value)}}
    return {"elements": translate(value) if isinstance(value, dict) else {"type": "string"}}


def _option_list(value: Any) -> list[Any]:
    is_plain = isinstance(value, list | tuple) and all(isinstance(option, str | int | float) for option in value)
    return list(value) if is_plain else []


def _one_of(value: Any, field: Mapping[str, Any]) -> dict[str, Any]:
    options = {"one_of": _option_list(value) or ["a", "b"]}
    if _type(field) in ("array", "set"):
        return {"elements": {"type": "string", **options}}
    return options


def _description(value: Any, _: Mapping[str, Any]) -> dict[str, Any]:
    fits = isinstance(value, str) and 10 <= len(value.encode(errors="replace")) <= 500
    return {"description": value if fits else "What the field is for."}


_Translator = Callable[[Any, Mapping[str, Any]], dict[str, Any]]
_TRANSLATIONS: Mapping[str, _Translator] = {
    **dict.fromkeys(_SIZES, lambda value, field: {}),
    **dict.fromkeys((*_OPTIONS, "oneOf"), _one_of),
    **dict.fromkeys(_ELEMENTS, _elements),
    **dict.fromkeys(_FIELDS, record_fields),
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
    return ", ".join(f"{json.dumps(key)}: {python_text(value)}" for key, value in attributes.items())


def python_text(value: Any) -> str:
    """Plain data as Python source, with double quotes."""
    if isinstance(value, Mapping):
        return f"{{{attributes_text(value)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(python_text, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return value.__name__ if isinstance(value, type) else repr(value)
