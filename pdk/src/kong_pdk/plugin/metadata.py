"""Reads a plugin's attributes beside its handlers: version, priority, Schema, lua_style, engine, timeout and others.

Lua plugins have ``VERSION`` and ``PRIORITY``, Go and JavaScript plugins have ``Version`` and ``Priority``. These
spellings are read too, in the module and in the class, if their value fits.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from kong_pdk.mode import ENGINES
from kong_pdk.plugin.description import DEFAULT_PRIORITY, DEFAULT_VERSION, Source
from kong_pdk.plugin.problem import Problem
from kong_pdk.plugin.static_scan import StaticScan

VERSION = re.compile(r"\d+\.\d+\.\d+\Z", re.ASCII)

_PREFIX = re.compile(r"(plugin|kong|handler)_?(?=.)")

# Similarity (of difflib) of two words of six letters or more with one letter missing, added or swapped.
_MIN_SIMILARITY = 0.83

_MAX_TEXT = 60
_UNKNOWN = object()


@dataclass(frozen=True)
class AttributeValue:
    """The value of an attribute, the name that it has in the source, and its line."""

    name: str
    value: Any
    line: int | None


@dataclass(frozen=True)
class _Attribute:
    """A name that is read, its other spellings, and tests whether a value under them can be meant for Kong.

    ``is_for_kong_in_class`` is None for an attribute that is not read from the class.
    """

    name: str
    other_spellings: tuple[str, ...]
    is_for_kong: Callable[[Any], bool]
    is_for_kong_in_class: Callable[[Any], bool] | None = None
    default: Any = None

    @property
    def spellings(self) -> tuple[str, ...]:
        return self.name, *self.other_spellings


def _is_similar(name: str, expected: str) -> bool:
    """Whether ``name`` may be a misspelling of ``expected``. Private names (``_x``) never are.

    ``PLUGIN_PRIORITY``, ``__version__`` and ``PIORITY`` are similar to ``priority`` and ``version``; ``api_version``
    is not.
    """
    word = name.lower()
    if word.startswith("_") and not (word.startswith("__") and word.endswith("__")):
        return False
    word = _PREFIX.sub("", word.strip("_"), count=1)
    return word == expected.lower() or difflib.SequenceMatcher(None, word, expected.lower()).ratio() >= _MIN_SIMILARITY


def _is_version(value: Any) -> bool:
    return isinstance(value, str) and bool(VERSION.match(value))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, int | float | str)


def _is_schema(value: Any) -> bool:
    """Whether a value can be a schema of Kong: a list of dicts, or the record of a schema.lua with its ``fields``."""
    if isinstance(value, dict):
        return isinstance(value.get("fields"), list | tuple)
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _has_fields(schema: Any) -> bool:
    """Whether a schema is a list of one-key dicts with definitions, and not any other list of dicts."""
    return isinstance(schema, dict) or all(
        len(definition) == 1 and all(isinstance(field, dict) for field in definition.values()) for definition in schema
    )


# Without another spelling: WORKERS and TIMEOUT of a module are usually the size and the limit of something of its own.
_ATTRIBUTES: Mapping[str, _Attribute] = {
    attribute.name: attribute
    for attribute in (
        _Attribute("version", ("VERSION", "Version"), _is_version, _is_version, DEFAULT_VERSION),
        _Attribute("priority", ("PRIORITY", "Priority"), _is_scalar, _is_integer, DEFAULT_PRIORITY),
        _Attribute("Schema", ("SCHEMA", "schema"), _is_schema, _is_schema, ()),
        _Attribute("lua_style", ("LUA_STYLE",), lambda value: isinstance(value, bool), None, True),
        _Attribute("engine", ("ENGINE",), lambda value: isinstance(value, str) and value in ENGINES),
        _Attribute("workers", (), lambda value: True),
        _Attribute("preload", (), lambda value: isinstance(value, bool)),
        _Attribute("timeout", (), lambda value: True),
        _Attribute("on_error", (), lambda value: True),
    )
}

# The arguments of start_dedicated_server after the plugin's name and class.
_ARGUMENTS = ("version", "priority", "Schema")


def of_module(module: ModuleType | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a module that describe its plugin; ``arguments`` that are not None replace them."""
    passed = {name: value for name, value in arguments.items() if value is not None}
    replaced = {spelling for name in passed for spelling in _ATTRIBUTES[name].spellings}
    names = {spelling for attribute in _ATTRIBUTES.values() for spelling in attribute.spellings} - replaced
    return {name: value for name, value in vars(module).items() if name in names} | passed if module else passed


class Metadata:
    """The attributes of one module: the values that count, and warnings about values that are ignored."""

    def __init__(self, source: Source, scan: StaticScan, module: ModuleType) -> None:
        self._source = source
        self._scan = scan
        self._module = module
        self._values = {name: list(self._candidates(attribute)) for name, attribute in _ATTRIBUTES.items()}

    def find(self, name: str) -> AttributeValue | None:
        """The value that counts: the module before the class, the documented spelling before the others."""
        return next(iter(self._values[name]), None)

    def _candidates(self, attribute: _Attribute) -> Iterator[AttributeValue]:
        attributes = vars(self._module)
        for name in attribute.spellings:
            value = attributes.get(name)
            is_missing = name not in attributes or (name == "Schema" and value is None)
            if not is_missing and (name == attribute.name or attribute.is_for_kong(value)):
                yield AttributeValue(name, value, self._scan.line_of(name))
        cls = attributes.get("Plugin")
        if attribute.is_for_kong_in_class is None or not isinstance(cls, type):
            return
        for name in attribute.spellings:
            value = inspect.getattr_static(cls, name, None)
            if attribute.is_for_kong_in_class(value) and name not in getattr(cls, "__dataclass_fields__", ()):
                yield AttributeValue(name, value, self._scan.line_of(name, "Plugin") or self._scan.line_of("Plugin"))

    def warnings(self) -> Iterator[Problem]:
        """A warning for each value that is ignored, although its author may expect it to count."""
        for attribute in _ATTRIBUTES.values():
            values = self._values[attribute.name]
            for overruled in values[1:]:
                if not _same(values[0].value, overruled.value):
                    yield self._warning(overruled.line, *_overruled(attribute, values[0], overruled))
        yield from self.unread_version()
        for name in _ARGUMENTS:
            if not self._values[name] and not (name == "version" and any(self.unread_version())):
                yield from self._similar_names(name)

    def unread_version(self) -> Iterator[Problem]:
        """A warning for a version that is not x.y.z, under a spelling that is read only if its value fits."""
        for name in _ATTRIBUTES["version"].other_spellings if not self._values["version"] else ():
            value = vars(self._module).get(name)
            numbers = isinstance(value, tuple) and bool(value) and all(map(_is_integer, value))
            if isinstance(value, str | float) or numbers:
                message = f"{name} is {value!r}, not x.y.z, and is not read: the version is {DEFAULT_VERSION}"
                yield self._warning(self._scan.line_of(name), message, f'write version = "{nearest_version(value)}"')

    def _similar_names(self, name: str) -> Iterator[Problem]:
        """Warnings for names at the top level that are similar to an attribute's name, and are not read."""
        attribute = _ATTRIBUTES[name]
        for other, value in vars(self._module).items():
            if other in attribute.spellings or not self._scan.assigns(other) or not _is_similar(other, name):
                continue
            if (
                attribute.is_for_kong_in_class
                and attribute.is_for_kong_in_class(value)
                and (name != "Schema" or _has_fields(value))
            ):
                text = "" if name == "Schema" else f" = {_quoted(value)}"
                yield self._warning(self._scan.line_of(other), f"{other} is not read", f"did you mean {name}{text}?")

    def _warning(self, line: int | None, message: str, hint: str) -> Problem:
        return Problem(self._source.file, line, message, hint, self._source.name)

    def warnings_of_main(self) -> Iterator[Problem]:
        """Warnings for values that only a server started by the file itself gets, in code that does not run here."""
        bound, call = self._scan.main_block()
        arguments = {name: call.arguments[name] for name in _ARGUMENTS if name in call.arguments} if call else {}
        unread: dict[str, tuple[int, str]] = {}
        for name in _ARGUMENTS:
            attribute, counting = _ATTRIBUTES[name], self.find(name)
            node = arguments.get(name)
            if node is None:
                spelling = next((each for each in attribute.spellings if each in bound), None)
                node = bound[spelling] if spelling and counting is None else None
            elif isinstance(node, ast.Name) and node.id in bound:
                node = bound[node.id]
            if node is None:
                continue
            value = self._value(node)
            if counting is None and not _same(value, attribute.default) and value not in (None, []):
                unread[name] = node.lineno, _source_text(node)
            elif counting is not None and value is not _UNKNOWN and not _same(value, counting.value):
                message = (
                    f"start_dedicated_server is given another {name}, which is ignored here: "
                    f"{_value_in_module(counting)}"
                )
                yield self._warning(node.lineno, message, f"pass {counting.name} of the module")
        if unread:
            yield self._unread_in_main(unread, call.in_main if call else True)
        if (
            call
            and call.unpacked
            and (missing := [each for each in _ARGUMENTS if each not in arguments and not self.find(each)])
        ):
            unpacked = " and ".join(call.unpacked)
            message = f"the arguments of start_dedicated_server do not count here, and {unpacked} cannot be read"
            hint = f"write {_listed(missing)} at the top level of the module"
            yield self._warning(call.line, message, hint)

    def _unread_in_main(self, unread: Mapping[str, tuple[int, str]], in_main: bool) -> Problem:
        names = _listed(list(unread))
        place = 'below if __name__ == "__main__"' if in_main else "in the call of start_dedicated_server"
        message = f"{names} {'are' if len(unread) > 1 else 'is'} set only {place}, which does not run here"
        if "Schema" in unread:
            message += ", so that every field of a configuration is an unknown field"
        lines = "; ".join(f"{name} = {text}" for name, (_, text) in unread.items())
        line = min(line for line, _ in unread.values())
        return self._warning(line, message, f"write at the top level of the module: {lines}")

    def _value(self, node: ast.expr) -> Any:
        """The value of an expression, or ``_UNKNOWN`` if only running it shows the value."""
        if isinstance(node, ast.Name):
            return vars(self._module).get(node.id, _UNKNOWN)
        if isinstance(node, ast.Attribute):
            base = self._value(node.value)
            return _UNKNOWN if base is _UNKNOWN else getattr(base, node.attr, _UNKNOWN)
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return _UNKNOWN


def nearest_version(value: object) -> str:
    """The version x.y.z that a value in another form may mean: 1.0.0 for ``"v1.0-beta"`` or ``(1, 0)``."""
    numbers = re.findall(r"\d+", str(value)[:_MAX_TEXT], re.ASCII)[:3] or ["1"]
    return ".".join((*numbers, "0", "0")[:3])


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return list(left) == list(right)
    return bool(left == right)


def _value_in_module(attribute: AttributeValue) -> str:
    value = "" if isinstance(attribute.value, list | tuple | dict) else f" = {attribute.value!r}"
    return f"{attribute.name}{value} of the module counts"


def _overruled(attribute: _Attribute, counts: AttributeValue, other: AttributeValue) -> tuple[str, str]:
    if attribute.name == "Schema":
        return f"{other.name} and {counts.name} differ, and {counts.name} counts", f"keep only {counts.name}"
    message = f"{other.name} is {other.value!r} and {counts.name} {counts.value!r}, and {counts.name} counts"
    return message if other.name != counts.name else f"{message} of the module", f"keep only {counts.name}"


def _source_text(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= _MAX_TEXT and "\n" not in text else "..."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
