"""Converts any argument of a PDK call to a value that both protocols carry: text, bytes, number, list or dict.

A conversion may run code of the author (``__str__``, ``items`` of a mapping...), so callers must hold no lock.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import os
import uuid
from collections import UserString
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from kong_pdk.exception_text import describe
from kong_pdk.wire.text import decode
from kong_pdk.wire.wire_errors import ArgumentError

MAX_DEPTH = 200
"""How deeply lists and dicts may be nested."""

MAX_VALUES = 1_000_000
"""How many values an argument may have, with the values in its lists and dicts."""

MAX_CHARACTERS = 256 * 1024 * 1024
"""How many characters and bytes all texts of an argument may have, as many as a message of the wire."""

MAX_LOG_TEXT = 64 * 1024
"""Characters of an argument of ``kong.log``; nginx itself writes at most 4 KiB of a line."""

_SHORT = 100
_INTEGERS = (-(2**63), 2**64 - 1)  # the range of MessagePack; larger ones become doubles, as in Lua
_TEXT = (datetime.date, datetime.time, uuid.UUID)
_MOST_PRINTED = 10_000  # values; a log line shows an extract of larger containers
_MOST_CHARACTERS_PRINTED = 1024 * 1024
_EXTRACT_VALUES, _EXTRACT_DEPTH = 500, 20
_HINT = "give text, bytes, a number, True, False, None, a list or a dict"
_INFINITIES = (float("inf"), float("-inf"))


class _Refused(Exception):
    """A value cannot be sent. ``path`` has its keys and positions in the argument, the innermost first."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.path: list[object] = []


def converted(function: str, args: Sequence[object]) -> list[Any]:
    """Convert the arguments of a PDK call.

    :param function: the dotted name.
    :raises ArgumentError: an argument cannot be sent; the message names it.
    :raises Exception: from the author's objects.
    """
    return [
        value if type(value) is str and value.isascii() else _argument(function, place, value)
        for place, value in enumerate(args, start=1)
    ]


def are_short_texts(args: Sequence[object]) -> bool:
    """Whether all arguments are short texts in ASCII, which no conversion changes."""
    for value in args:  # noqa: SIM110  # a generator takes twice the time
        if type(value) is not str or len(value) > _SHORT or not value.isascii():
            return False
    return True


def _argument(function: str, place: int, value: object) -> Any:
    try:
        return _Conversion().convert(value, 0)
    except _Refused as refused:
        inside = "".join(f"[{key!r:.40}]" for key in reversed(refused.path[-5:]))
        raise ArgumentError(f"{function}: argument {place}{inside} {refused}") from None
    except RecursionError as error:
        raise ArgumentError(f"{function}: argument {place} is nested too deeply to be sent to Kong") from error


class _Conversion:
    """The conversion of an argument, which counts its values and characters."""

    def __init__(self) -> None:
        self._left = MAX_VALUES
        self._characters_left = MAX_CHARACTERS

    def convert(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in _EXACT:
            if kind is str or kind is bytes:
                self._count_text(value)
            check = _EXACT[kind]
            return check(value) if check else value
        if depth >= MAX_DEPTH:
            raise _Refused(
                f"is nested too deeply to be sent to Kong: more than {MAX_DEPTH} levels, or one that holds itself"
            )
        if value.__class__ is not kind and (stands_for := _stands_for(value)) is not None:
            return self.convert(stands_for, depth + 1)
        for kinds, convert in _BY_CLASS:
            if isinstance(value, kinds):
                return convert(self, value, depth + 1)
        return self._by_protocol(value, depth + 1)

    def _by_protocol(self, value: Any, depth: int) -> Any:
        """Convert a dataclass, or an object with ``tolist`` (of numpy), ``__index__`` or ``__float__``."""
        kind = type(value)
        converted: Any = None
        if isinstance(value, type):
            pass
        elif dataclasses.is_dataclass(value):
            converted = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        elif callable(getattr(kind, "tolist", None)):
            converted = value.tolist()
        elif hasattr(kind, "__index__"):
            converted = kind.__index__(value)
        elif hasattr(kind, "__float__"):
            converted = kind.__float__(value)
        if converted is None:
            hint = "make it a list or a dict" if hasattr(kind, "__iter__") else _HINT
            raise _Refused(f"is a value of type {kind.__name__}, which cannot be sent to Kong; {hint}")
        return self.convert(converted, depth)

    def list(self, value: Iterable[Any], depth: int) -> list[Any]:
        items: list[Any] = []
        try:
            for item in self._counted(value):
                items.append(self.convert(item, depth))  # noqa: PERF401  # its length is the position of a refused value
        except _Refused as refused:
            refused.path.append(len(items))
            raise
        return items

    def dict(self, value: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
        converted: dict[Any, Any] = {}
        name: str | bytes = ""
        # A copy of the items: another thread may change the dict.
        items = list(value.items()) if type(value) is dict else value.items()
        try:
            for key, item in self._counted(items):
                name = repr(key)[:40] if isinstance(key, tuple) else name
                name = _key(key)
                if name in converted:
                    raise _Refused("is there twice, as two keys that are the same text")
                converted[name] = self.convert(item, depth)
        except _Refused as refused:
            refused.path.append(name)
            raise
        return converted

    def _count_text(self, value: str | bytes) -> None:
        self._characters_left -= len(value)
        if self._characters_left < 0:
            raise _Refused(f"has text of more than {MAX_CHARACTERS} characters, which is too much to be sent to Kong")

    def _counted(self, items: Iterable[Any]) -> Iterable[Any]:
        for item in items:
            self._left -= 1
            if self._left < 0:
                raise _Refused(f"has more than {MAX_VALUES} values, which is too much to be sent to Kong")
            yield item


def _stands_for(value: Any) -> Any:
    """Give the value behind a proxy (of werkzeug, wrapt, Django...), which only its ``__class__`` shows; else None."""
    kind: Any
    for kind in (bool, int, float, str, bytes):
        if isinstance(value, kind) and not issubclass(type(value), kind):
            try:
                return kind(value)
            except TypeError as error:
                name = type(value).__name__
                raise _Refused(f"is a value of type {name}, which cannot be sent to Kong: {error}") from None
    return None


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            wrong = value[error.start]
            raise _Refused(
                f"has the character {wrong!r} at position {error.start}, which is no text in UTF-8"
            ) from None
    return value


def _integer(value: int) -> int | float:
    if _INTEGERS[0] <= value <= _INTEGERS[1]:
        return value
    try:
        return float(value)
    except OverflowError:
        raise _Refused("is a number that is too large to be sent to Kong") from None


def _number(value: float) -> float:
    if value != value or value in _INFINITIES:  # noqa: PLR0124  # NaN is not equal to itself
        raise _Refused(f"is the number {value}, which cannot be sent to Kong")
    return value


def _rational(value: decimal.Decimal | fractions.Fraction) -> int | float:
    if isinstance(value, decimal.Decimal) and not value.is_finite():
        raise _Refused(f"is the number {value}, which cannot be sent to Kong")
    try:
        number = float(value)
    except OverflowError:
        number = _INFINITIES[0]
    if number in _INFINITIES:
        raise _Refused("is a number that is too large to be sent to Kong")
    return int(number) if number.is_integer() and abs(number) <= 2**53 else number


def _key(key: Any) -> str | bytes:
    """Convert a key of a dict to text."""
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, str):
        return _text(str.__str__(key))
    if isinstance(key, bytes):
        return decode(bytes(memoryview(key)))
    if isinstance(key, bool) or key is None:
        return {True: "true", False: "false", None: "null"}[key]  # as Python's json writes them
    if isinstance(key, (int, float)):
        return _as_text(key)
    if isinstance(key, _TEXT):
        return str(key) if isinstance(key, uuid.UUID) else key.isoformat()
    if isinstance(key, (os.PathLike, decimal.Decimal)):
        return str(key)
    raise _Refused(f"has a key of type {type(key).__name__}; keys are text")


def _as_text(number: int | float) -> str:
    """Format a number; an integer with thousands of digits in hexadecimal, which takes linear time."""
    if isinstance(number, float):
        return float.__repr__(number)
    try:
        return int.__repr__(number)
    except ValueError:  # more digits than Python formats
        return hex(int.__int__(number))


_EXACT: Mapping[type, Callable[[Any], Any] | None] = {
    str: _text,
    int: _integer,
    float: _number,
    bytes: None,
    bool: None,
    type(None): None,
}
# The first match counts. An instance of a subclass is converted by the methods of the base class.
_BY_CLASS: Sequence[tuple[Any, Callable[[_Conversion, Any, int], Any]]] = (
    (Mapping, _Conversion.dict),
    ((list, tuple), _Conversion.list),
    (str, lambda conversion, value, depth: _text(str.__str__(value))),
    (int, lambda conversion, value, depth: _integer(int.__int__(value))),
    (float, lambda conversion, value, depth: _number(float.__float__(value))),
    ((bytes, bytearray, memoryview), lambda conversion, value, depth: bytes(memoryview(value))),
    (enum.Enum, lambda conversion, value, depth: conversion.convert(value.value, depth)),
    ((uuid.UUID, UserString), lambda conversion, value, depth: _text(str(value))),
    ((datetime.date, datetime.time), lambda conversion, value, depth: value.isoformat()),
    ((decimal.Decimal, fractions.Fraction), lambda conversion, value, depth: _rational(value)),
    (os.PathLike, lambda conversion, value, depth: conversion.convert(os.fspath(value), depth)),
    (Sequence, _Conversion.list),
)


def log_argument(value: Any) -> Any:
    """Convert an argument of ``kong.log`` and its levels. No value is refused: other types become text."""
    if value is None:
        return "nil"
    kind = type(value)  # not isinstance, which a proxy deceives
    for base, convert in _LOGGED:
        if issubclass(kind, base):
            return convert(value)
    return _cut(_printable(_described(value)))


def _logged_integer(value: int) -> int | str:
    number = int.__int__(value)
    return number if _INTEGERS[0] <= number <= _INTEGERS[1] else _cut(_as_text(number))


def _logged_bytes(value: bytes | bytearray) -> bytes:
    content = bytes(memoryview(value)[:MAX_LOG_TEXT])
    return content if len(value) <= MAX_LOG_TEXT else content + b"... (%d more bytes)" % (len(value) - MAX_LOG_TEXT)


def _logged_view(value: memoryview) -> bytes | str:
    try:
        return _logged_bytes(bytes(value))
    except ValueError:  # it was released
        return repr(value)


_LOGGED: Sequence[tuple[Any, Callable[[Any], Any]]] = (
    (str, lambda value: _cut(_printable(str.__str__(value)))),
    (bool, bool),
    (int, _logged_integer),
    (float, float.__float__),
    ((bytes, bytearray), _logged_bytes),
    (memoryview, _logged_view),
)


def _described(value: object) -> str:
    """Convert an object by ``str``; containers that are very large or contain themselves become an extract."""
    try:
        if isinstance(value, (dict, list, tuple, set, frozenset)) and not _is_small(value):
            return _Extract().text(value)
        return str.__str__(str(value))
    except Exception as error:  # noqa: BLE001  # the author's code may raise anything
        return f"<{type(value).__name__}; its text cannot be made: {describe(error)}>"


def _is_small(value: object) -> bool:
    """Whether a container is small enough to be shown as a whole."""
    todo, seen, characters = [(value, 0)], 0, 0
    while todo:
        item, depth = todo.pop()
        seen += 1
        characters += len(item) if isinstance(item, (str, bytes)) else 0
        if depth > MAX_DEPTH or seen + len(todo) > _MOST_PRINTED or characters > _MOST_CHARACTERS_PRINTED:
            return False
        if isinstance(item, dict):
            todo.extend((each, depth + 1) for each in islice(item.values(), _MOST_PRINTED + 1))
        elif isinstance(item, (list, tuple, set, frozenset)):
            todo.extend((each, depth + 1) for each in islice(item, _MOST_PRINTED + 1))
    return True


class _Extract:
    """Makes text of the beginning of a container that is very large or contains itself."""

    def __init__(self) -> None:
        self._left = _EXTRACT_VALUES

    def text(self, value: object, depth: int = 0) -> str:
        self._left -= 1
        if self._left < 0 or depth > _EXTRACT_DEPTH:
            return "..."
        if isinstance(value, dict):
            items = (
                f"{_described(key):.200}: {self.text(item, depth + 1)}" for key, item in self._first(value.items())
            )
            return f"{{{', '.join(items)}}}"
        if isinstance(value, (list, tuple, set, frozenset)):
            start, end = (
                ("[", "]") if isinstance(value, list) else ("(", ")") if isinstance(value, tuple) else ("{", "}")
            )
            return f"{start}{', '.join(self.text(item, depth + 1) for item in self._first(value))}{end}"
        return f"{_described(value):.200}"

    def _first(self, items: Iterable[Any]) -> Iterable[Any]:
        return islice(items, max(self._left + 1, 1))


def inspect_argument(value: object) -> Any:
    """Convert an argument of ``kong.log.inspect``: lists and dicts stay, since Kong shows them as tables."""
    try:
        if isinstance(value, (dict, list, tuple)) and _is_small(value):
            return _as_table(value)
    except Exception:  # noqa: BLE001  # the author's code may raise anything
        pass
    return log_argument(value)


def _as_table(value: object) -> Any:
    if isinstance(value, dict):
        items = list(value.items())
        return {_printable(str(_described(key))): _as_table(item) for key, item in items}
    return [_as_table(item) for item in value] if isinstance(value, (list, tuple)) else log_argument(value)


def _printable(text: str) -> str:
    """Escape surrogates that do not stand for bytes, since UTF-8 does not have them."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _cut(text: str) -> str:
    return (
        text if len(text) <= MAX_LOG_TEXT else f"{text[:MAX_LOG_TEXT]}... ({len(text) - MAX_LOG_TEXT} more characters)"
    )
