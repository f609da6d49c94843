"""Lua's rules that Kong's schema checks depend on: equality, length, values as text, and patterns."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


def identity(value: object) -> object:
    """A key that is equal for values that are equal in Lua: numbers by value, tables only by identity."""
    if value is None or isinstance(value, bool):
        return ("constant", value)
    if isinstance(value, int | float):
        return ("number", value)
    return ("string", value) if isinstance(value, str) else ("table", id(value))


def equal(left: object, right: object) -> bool:
    """Lua's ``==``."""
    return identity(left) == identity(right)


def text(value: object) -> str:
    """Lua's ``tostring`` of a JSON value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        try:
            return f"{value:.14g}"
        except OverflowError:
            return str(value)
    return str(value)


def length(value: str | list[object] | dict[str, object]) -> int:
    """Lua's ``#``: a string counts in bytes."""
    return len(value.encode("utf-8", "surrogateescape")) if isinstance(value, str) else len(value)


ByteSet = frozenset[int]

_ALL = frozenset(range(256))


def _ascii(characters: str) -> ByteSet:
    return frozenset(characters.encode("ascii"))


_CLASSES: dict[str, ByteSet] = {
    "a": _ascii(string.ascii_letters),
    "c": frozenset([*range(32), 127]),
    "d": _ascii(string.digits),
    "g": frozenset(range(33, 127)),
    "l": _ascii(string.ascii_lowercase),
    "p": _ascii(string.punctuation),
    "s": _ascii(" \t\n\r\v\f"),
    "u": _ascii(string.ascii_uppercase),
    "w": _ascii(string.ascii_letters + string.digits),
    "x": _ascii(string.hexdigits),
    "z": frozenset([0]),
}


@dataclass(frozen=True)
class _Item:
    """One step of a pattern.

    ``data`` is the set of bytes of a single-character class. ``number`` is the number of a capture, or for ``%b`` both
    delimiters as ``opening * 256 + closing``.
    """

    kind: Literal["set", "open", "close", "position", "back", "balance", "frontier", "end"]
    data: ByteSet = frozenset()
    number: int = 0
    repeat: str = ""


class Pattern:
    """A Lua pattern, as for ``string.match``. Raises :class:`ValueError` if it is malformed."""

    def __init__(self, pattern: str) -> None:
        self._source = pattern.encode("utf-8", "surrogateescape")
        self._anchored = self._source.startswith(b"^")
        self._items: list[_Item] = []
        self._open: list[int] = []
        self._captures = 0
        self._compile(1 if self._anchored else 0)

    def matches(self, value: str) -> bool:
        """Whether the pattern is found in ``value``."""
        subject = value.encode("utf-8", "surrogateescape")
        starts = range(1 if self._anchored else len(subject) + 1)
        return any(_Match(self._items, subject).at(0, start, {}) for start in starts)

    def _compile(self, at: int) -> None:
        while at < len(self._source):
            at = self._compile_item(at)
        if self._open:
            raise ValueError("unfinished capture")

    def _compile_item(self, at: int) -> int:
        byte, special = self._source[at : at + 1], self._source[at : at + 2]
        if byte == b"(":
            return self._compile_open(at)
        if byte == b")":
            return self._compile_close(at)
        if byte == b"$" and at + 1 == len(self._source):
            self._items.append(_Item("end"))
            return at + 1
        if special in (b"%b", b"%f") or (byte == b"%" and special[1:].isdigit()):
            return self._compile_special(at, special)
        return self._compile_single(at)

    def _compile_special(self, at: int, special: bytes) -> int:
        if special == b"%b":
            pair = self._source[at + 2 : at + 4]
            if len(pair) < 2:
                raise ValueError("missing arguments to '%b'")
            self._items.append(_Item("balance", number=pair[0] * 256 + pair[1]))
            return at + 4
        if special == b"%f":
            if self._source[at + 2 : at + 3] != b"[":
                raise ValueError("missing '[' after '%f' in pattern")
            data, after = self._set(at + 2)
            self._items.append(_Item("frontier", data))
            return after
        number = int(special[1:])
        if not 1 <= number <= self._captures or number in self._open:
            raise ValueError("invalid capture index")
        self._items.append(_Item("back", number=number))
        return at + 2

    def _compile_close(self, at: int) -> int:
        if not self._open:
            raise ValueError("invalid pattern capture")
        self._items.append(_Item("close", number=self._open.pop()))
        return at + 1

    def _compile_open(self, at: int) -> int:
        self._captures += 1
        if self._source[at + 1 : at + 2] == b")":
            self._items.append(_Item("position", number=self._captures))
            return at + 2
        self._items.append(_Item("open", number=self._captures))
        self._open.append(self._captures)
        return at + 1

    def _compile_single(self, at: int) -> int:
        data, after = self._set(at)
        repeat = self._source[after : after + 1].decode("latin-1")
        if repeat and repeat in "*+-?":
            self._items.append(_Item("set", data, repeat=repeat))
            return after + 1
        self._items.append(_Item("set", data))
        return after

    def _set(self, at: int) -> tuple[ByteSet, int]:
        """The bytes that a single-character class matches, and the index of its end."""
        byte = self._source[at]
        if byte == ord("."):
            return _ALL, at + 1
        if byte == ord("%"):
            return self._escaped(at)
        if byte == ord("["):
            return self._bracket(at + 1)
        return frozenset([byte]), at + 1

    def _escaped(self, at: int) -> tuple[ByteSet, int]:
        if at + 1 >= len(self._source):
            raise ValueError("malformed pattern (ends with '%')")
        letter = chr(self._source[at + 1])
        members = _CLASSES.get(letter.lower())
        if members is None:
            return frozenset([self._source[at + 1]]), at + 2
        return (members if letter.islower() else _ALL - members), at + 2

    def _bracket(self, at: int) -> tuple[ByteSet, int]:
        source, members = self._source, set[int]()
        inverted = source[at : at + 1] == b"^"
        at += inverted
        first = True
        while first or source[at : at + 1] != b"]":
            if at >= len(source):
                raise ValueError("malformed pattern (missing ']')")
            first = False
            if source[at] == ord("%"):
                escaped, at = self._escaped(at)
                members |= escaped
            elif source[at + 1 : at + 2] == b"-" and source[at + 2 : at + 3] not in (b"]", b""):
                members.update(range(source[at], source[at + 2] + 1))
                at += 3
            else:
                members.add(source[at])
                at += 1
        return (_ALL - members if inverted else frozenset(members)), at + 1


class _Match:
    """One attempt to match. ``captures`` maps a capture's number to its start and its end, None while it is open."""

    def __init__(self, items: list[_Item], subject: bytes) -> None:
        self._items = items
        self._subject = subject

    def at(self, index: int, position: int, captures: dict[int, tuple[int, int | None]]) -> bool:
        """Whether the items from ``index`` on match the subject from ``position`` on."""
        if index == len(self._items):
            return True
        item = self._items[index]
        if item.kind == "set":
            return self._set(item, index, position, captures)
        if item.kind in ("open", "position"):
            end = position if item.kind == "position" else None
            return self.at(index + 1, position, {**captures, item.number: (position, end)})
        if item.kind == "close":
            return self.at(index + 1, position, {**captures, item.number: (captures[item.number][0], position)})
        after = self._fixed[item.kind](self, item, position, captures)
        return after is not None and self.at(index + 1, after, captures)

    def _set(self, item: _Item, index: int, position: int, captures: dict[int, tuple[int, int | None]]) -> bool:
        most = {"": 1, "?": 1}.get(item.repeat, len(self._subject))
        least = 1 if item.repeat in ("", "+") else 0
        run = 0
        while run < most and position + run < len(self._subject) and self._subject[position + run] in item.data:
            run += 1
        lengths = range(least, run + 1) if item.repeat == "-" else range(run, least - 1, -1)
        return any(self.at(index + 1, position + length, captures) for length in lengths)

    def _end(self, item: _Item, position: int, captures: object) -> int | None:
        return position if position == len(self._subject) else None

    def _frontier(self, item: _Item, position: int, captures: object) -> int | None:
        before = self._subject[position - 1] if position else 0
        here = self._subject[position] if position < len(self._subject) else 0
        return position if before not in item.data and here in item.data else None

    def _back(self, item: _Item, position: int, captures: dict[int, tuple[int, int | None]]) -> int | None:
        start, end = captures[item.number]
        captured = self._subject[start:end]
        return position + len(captured) if self._subject.startswith(captured, position) else None

    def _balance(self, item: _Item, position: int, captures: object) -> int | None:
        opening, closing = divmod(item.number, 256)
        if self._subject[position : position + 1] != bytes([opening]):
            return None
        depth = 1
        for at in range(position + 1, len(self._subject)):
            if self._subject[at] == closing:
                depth -= 1
                if not depth:
                    return at + 1
            elif self._subject[at] == opening:
                depth += 1
        return None

    _fixed: dict[str, Callable[..., int | None]] = {  # noqa: RUF012 - read only
        "end": _end,
        "frontier": _frontier,
        "back": _back,
        "balance": _balance,
    }
