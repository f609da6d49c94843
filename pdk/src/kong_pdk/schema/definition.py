"""Checks that Kong accepts a plugin's ``Schema``, before Kong sees it."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from kong_pdk.schema import Field, attributes, foreign_attributes, foreign_shapes
from kong_pdk.schema.config_values import check_value
from kong_pdk.schema.error_text import format_errors

Path = tuple[int | str, ...]

_SHAPE = 'write it as a list of one-key dicts: Schema = [{"message": {"type": "string"}}]'

# Replaces a field that JSON cannot carry, and whose fault is already reported.
_UNUSABLE: Any = object()


@dataclass(frozen=True)
class Fault:
    """A mistake in a schema, and its path in ``Schema``: ``(0, "message", "one_of")``."""

    path: Path
    message: str
    hint: str | None = None


def check_schema(schema: object) -> tuple[tuple[Field, ...], list[Fault]]:
    """The fields of ``schema`` as plain JSON data, and its faults. The fields can be used only if there are no faults.

    :param schema: the author's schema, which should be a list or a tuple of one-key dicts. Each is the name of a field
        of the plugin's configuration and its definition in Kong's schema language.
    """
    if not isinstance(schema, list | tuple):
        return (), [Fault((), f"Schema is a {type(schema).__name__}, not a list or a tuple", _shape_hint(schema))]
    check = _SchemaCheck()
    fields = [check.plain_item(item, (at,)) for at, item in enumerate(schema)]
    check.fields(fields, (), "")
    check.check_names(fields)
    return tuple(field for field in fields if field is not _UNUSABLE), check.faults


def _shape_hint(schema: object) -> str:
    """A hint with the schema in the right form, as far as its meaning is clear."""
    fields = foreign_shapes.fields_from_schema(schema)
    return f"write a list of one-key dicts: {foreign_shapes.schema_text(fields)}" if fields else _SHAPE


class _SchemaCheck:
    """Collects the faults of one schema. In its methods, ``title`` is a field's dotted name for messages."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._inside: list[int] = []

    def fault(self, path: Path, message: str, hint: str | None = None) -> None:
        self.faults.append(Fault(path, message, hint))

    def plain_item(self, item: object, path: Path) -> Any:
        """``item`` with lists in place of tuples, or ``_UNUSABLE`` and a fault if JSON cannot carry it."""
        before = len(self.faults)
        plain = self._plain_value(item, path)
        return plain if len(self.faults) == before else _UNUSABLE

    def _plain_value(self, value: object, path: Path) -> Any:
        if isinstance(value, dict | list | tuple):
            return self._container(value, path)
        if isinstance(value, str):
            return self._text(str.__str__(value), path)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            # Values of subclasses, such as members of an IntEnum, become plain numbers, as in JSON.
            return int(value) if isinstance(value, int) else float(value)
        return self.fault(
            path,
            f"Schema holds {_described(value)} {_location(path)}, which JSON cannot carry",
            _json_hint(value, path),
        )

    def _container(self, value: dict[Any, object] | list[object] | tuple[object, ...], path: Path) -> Any:
        if id(value) in self._inside:
            return self.fault(path, f"Schema holds itself {_location(path)}", "write the inner fields out")
        self._inside.append(id(value))
        plain = self._plain_dict(value, path) if isinstance(value, dict) else self._plain_list(value, path)
        self._inside.pop()
        return plain

    def _text(self, value: str, path: Path) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fault(path, f"Schema holds text {_location(path)} that is not valid Unicode", "fix the text")
        return value

    def _plain_list(self, value: list[object] | tuple[object, ...], path: Path) -> list[Any]:
        return [self._plain_value(each, (*path, at)) for at, each in enumerate(value)]

    def _plain_dict(self, value: dict[Any, object], path: Path) -> dict[str, Any]:
        for key in value:
            if not isinstance(key, str):
                self.fault(
                    path, f"Schema has the key {key!r} {_location(path)}, which is not a string", "use a string as key"
                )
        return {self._text(str(key), path): self._plain_value(each, (*path, str(key))) for key, each in value.items()}

    def fields(self, fields: list[Any], path: Path, parent: str) -> None:
        """Check a list of fields: each is a one-key dict, and no name occurs twice."""
        seen: set[str] = set()
        for at, item in enumerate(fields):
            here = (*path, at)
            if item is _UNUSABLE:
                continue
            if not isinstance(item, dict) or len(item) != 1:
                self._report_not_one_key(item, here, parent)
                continue
            [(name, field)] = item.items()
            if name in seen:
                self.fault((*here, name), f'Schema has the field "{parent}{name}" twice', "remove one of them")
            seen.add(name)
            if not name:
                self.fault(here, "Schema has a field whose name is empty", "give it a name")
            self.field(field, (*here, name), parent + name)

    def check_names(self, fields: list[Any]) -> None:
        """Report top-level fields that belong into a schema.lua, or whose values Kong overwrites."""
        for at, name, message, hint in foreign_shapes.lua_schema_fields(fields):
            self.faults = [fault for fault in self.faults if fault.path[:2] != (at, name)]
            self.fault((at, name), message, hint)
        for at, item in enumerate(fields):
            for name, where in foreign_shapes.OVERWRITTEN.items():
                if isinstance(item, dict) and len(item) == 1 and name in item:
                    message = f'Schema field "{name}" never has the user\'s value: Kong puts its own there, or none'
                    self.fault((at, name), message, f'choose another name, such as "my_{name}" ({where})')

    def _report_not_one_key(self, item: Any, path: Path, parent: str) -> None:
        where = f'in "{parent[:-1]}" ' if parent else ""
        if isinstance(item, dict) and "type" in item and isinstance(item.get("name"), str):
            name, definition = item["name"], {key: value for key, value in item.items() if key != "name"}
            hint = f"write {foreign_attributes.python_text({name: foreign_attributes.translate(definition)})}"
            self.fault(path, f"Schema {where}has a field definition without a name", hint)
        elif isinstance(item, dict) and "type" in item and len(item) > 1:
            self.fault(path, f"Schema {where}has a field definition without a name", _SHAPE)
        elif isinstance(item, dict):
            self.fault(path, f"Schema {where}has a dict with {len(item)} keys, not one", _shape_hint(item))
        else:
            self.fault(path, f"Schema {where}has {_described(item)} where a field should be", _SHAPE)

    def field(self, field: Any, path: Path, title: str) -> None:
        """Check the definition of one field and of the fields inside it."""
        if not isinstance(field, dict):
            if path[-1] == "entity_checks":
                message = 'Schema has "entity_checks" among the fields'
                return self.fault(path, message, foreign_shapes.entity_checks_hint(title))
            hint = foreign_attributes.typedef_hint(field) or 'write {"type": "string"}'
            return self.fault(
                path, f'Schema field "{title}" is {_described(field)}, not a dict with its definition', hint
            )
        before = len(self.faults)
        translation = foreign_attributes.translation(field)
        if translation:
            self._report_translation(translation, field, path, title)
        corrected = translation.attributes if translation else ()
        if "type" in corrected or self._type(field, path, title):
            self._required_attributes(field, corrected, path, title)
        for name, value in field.items():
            if not translation or name not in translation.words:
                self._attribute(name, value, field, path, title)
        self._inner_fields(field, path, title)
        if len(self.faults) == before and field.get("default") is not None:
            self._default(field, path, title)
        return None

    def _report_translation(
        self, translation: foreign_attributes.Translation, field: Field, path: Path, title: str
    ) -> None:
        """Report all foreign attributes of a field in one fault, since their replacement replaces all of them."""
        words = ", ".join(f'"{word}"' for word in translation.words)
        message = f"the unknown attribute{'s' if len(translation.words) > 1 else ''} {words}"
        if "type" in translation.attributes and "type" in field and field["type"] not in attributes.TYPES:
            message = f"the unknown type {field['type']!r} and {message}"
        self.fault((*path, translation.words[0]), f'Schema field "{title}" has {message}', translation.hint)

    def _type(self, field: Field, path: Path, title: str) -> bool:
        kind = field.get("type")
        if kind in attributes.TYPES:
            return True
        known = ", ".join(attributes.TYPES)
        if kind is None:
            type_name = foreign_attributes.translate(field).get("type")
            hint = f'add "type": "{type_name}"' if type_name else f'add "type": one of {known}'
            self.fault(path, f'Schema field "{title}" has no type', hint)
        else:
            guess = attributes.closest(str(kind), attributes.TYPES)
            hint = f'did you mean "{guess}"?' if guess else f"use one of {known}"
            hint = foreign_attributes.type_hint(field) or hint
            self.fault((*path, "type"), f'Schema field "{title}" has the unknown type {kind!r}', hint)
        return False

    def _required_attributes(self, field: Field, corrected: Container[str], path: Path, title: str) -> None:
        kind = field.get("type")
        if kind == "record" and field.get("abstract"):
            return
        for name in attributes.REQUIRED.get(str(kind), ()) if "type" not in corrected else ():
            if name not in field and name not in corrected:
                example = foreign_attributes.translate(field).get(name) or [{"name": {"type": "string"}}]
                hint = f'add "{name}": {foreign_attributes.python_text(example)}'
                self.fault(path, f'Schema field "{title}" of type {kind} has no "{name}"', hint)
        if kind == "foreign" and "reference" not in field:
            self.fault(
                path, f'Schema field "{title}" of type foreign has no "reference"', 'add "reference": "consumers"'
            )

    def _attribute(self, name: str, value: Any, field: Field, path: Path, title: str) -> None:
        here, kind = (*path, name), field.get("type")
        if name in attributes.NEVER:
            needs = attributes.NEVER[name]
            hint = "use one_of, match or between, or check the value in Plugin.__init__"
            message = f'Schema field "{title}" has "{name}", which needs {needs}; a plugin server cannot give it'
            return self.fault(here, message, hint)
        if name not in attributes.ATTRIBUTES:
            guess = attributes.closest(name, attributes.ATTRIBUTES)
            hint = f'did you mean "{guess}"?' if guess else "remove it"
            hint = foreign_attributes.attribute_hint(name, field) or hint
            return self.fault(here, f'Schema field "{title}" has the unknown attribute "{name}"', hint)
        kinds = attributes.ONLY_FOR.get(name)
        if kinds and kind in attributes.TYPES and kind not in kinds:
            message = f'Schema field "{title}" of type {kind} cannot have the attribute "{name}"'
            misplaced = foreign_attributes.misplaced_hint(name, field)
            return self.fault(here, message, f"only {', '.join(kinds)} can" + (f"; {misplaced}" if misplaced else ""))
        if name != "type" and (error := attributes.ATTRIBUTES[name](value)):
            self.fault(here, f'Schema field "{title}": "{name}" {error}', foreign_attributes.value_hint(name, value))
        return None

    def _inner_fields(self, field: Field, path: Path, title: str) -> None:
        for name in ("elements", "keys", "values"):
            if isinstance(field.get(name), list) and field.get("type") not in attributes.ONLY_FOR[name]:
                continue  # a list of options, not a definition
            if name in field:
                self.field(field[name], (*path, name), f"{title}.{name}")
        if isinstance(field.get("fields"), list):
            self.fields(field["fields"], (*path, "fields"), f"{title}.")
        elif "fields" in field:
            message = f'Schema field "{title}": "fields" is {_described(field["fields"])}, not a list of one-key dicts'
            self.fault((*path, "fields"), message, f"write {foreign_shapes.fields_text(field['fields'])}")

    def _default(self, field: Field, path: Path, title: str) -> None:
        error = check_value(field, field["default"])
        if not error:
            return
        text = error if isinstance(error, str) else format_errors(error, title)
        hint = "give a default that fits the field"
        if field["default"] == "":
            hint = 'remove the default, or allow empty strings with "len_min": 0'
        message = f'Schema field "{title}" would refuse its own default {field["default"]!r}: {text}'
        self.fault((*path, "default"), message, hint)


def _described(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if callable(value):
        return f"the function {getattr(value, '__name__', type(value).__name__)}"
    if isinstance(value, float):
        return f"the number {value}"
    return "None" if value is None else f"a {type(value).__name__}"


def _json_hint(value: object, path: Path) -> str:
    if isinstance(value, set | frozenset):
        return "write a list"
    if isinstance(value, bytes | bytearray):
        return "write a str"
    if isinstance(value, type):
        if path[-1] == "type" and value.__name__ in foreign_attributes.TYPES:
            return f'write "{foreign_attributes.TYPES[value.__name__]}"'
        return f"name a type as Kong does: {', '.join(attributes.TYPES)}"
    if callable(value):
        return "use attributes such as one_of, match or between, or check the value in Plugin.__init__"
    return "use only strings, numbers, booleans, lists and dicts"


def _location(path: Path) -> str:
    names = [str(step) for step in path if isinstance(step, str)]
    return f'at "{".".join(names)}"' if names else f"as item {int(path[0]) + 1}"
