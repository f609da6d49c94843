"""Any value of an author becomes one that the wire carries, or is refused with a message, in bounded time."""

from __future__ import annotations

import datetime
import enum
import http
import math
import uuid
from collections import Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque, namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from kong_pdk.wire.pdk_values.conversion import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_LOG_TEXT,
    MAX_VALUES,
    converted,
    inspect_argument,
    log_argument,
)
from kong_pdk.wire.wire_errors import ArgumentError


class Text(str):
    """Text whose ``str`` is another text."""

    def __str__(self) -> str:
        return "something else"


class Level(enum.Enum):
    HIGH = "high"
    LOW = 1


class Flag(enum.IntFlag):
    A = 4


class TextEnum(str, enum.Enum):
    RED = "red"


class Number(float):
    def __float__(self) -> float:
        return -1.0


class Index:
    def __index__(self) -> int:
        return 7


class Measure:
    def __float__(self) -> float:
        return 2.5


class Scalar:
    """Like a number of numpy."""

    def tolist(self) -> float:
        return 1.5


class Array:
    """Like an array of numpy."""

    def tolist(self) -> list[Any]:
        return [[1, 2], [3, Scalar()]]


Point = namedtuple("Point", ["x", "y"])


@dataclass
class Inner:
    when: datetime.date = datetime.date(2026, 11, 29)


@dataclass
class Outer:
    name: str = "n"
    inner: Inner = field(default_factory=Inner)


class Proxy:
    """A proxy for another object, like those of werkzeug, wrapt and Django."""

    def __init__(self, target: Any) -> None:
        object.__setattr__(self, "target", target)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def __str__(self) -> str:
        return str(self.target)

    def __bytes__(self) -> bytes:
        return bytes(self.target)

    def __int__(self) -> int:
        return int(self.target)

    def __float__(self) -> float:
        return float(self.target)

    def __bool__(self) -> bool:
        return bool(self.target)

    def __iter__(self) -> Any:
        return iter(self.target)


class Lazy(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        return {"a": 1}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (http.HTTPStatus.FORBIDDEN, 403),
        (Flag.A, 4),
        (Level.HIGH, "high"),
        (Level.LOW, 1),
        (TextEnum.RED, "red"),
        (Text("text"), "text"),
        (Number(1.25), 1.25),
        (True, True),
        (None, None),
        (-(2**63), -(2**63)),
        (2**64 - 1, 2**64 - 1),
        (2**64, 2.0**64),
        (-(2**63) - 1, -(2.0**63)),
        (bytearray(b"\xff\0"), b"\xff\0"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (Decimal("12.50"), 12.5),
        (Decimal(3), 3),
        (Fraction(1, 4), 0.25),
        (datetime.datetime(2026, 11, 29, 1, 2, 3, tzinfo=datetime.timezone.utc), "2026-11-29T01:02:03+00:00"),
        (datetime.date(2026, 11, 29), "2026-11-29"),
        (datetime.time(1, 2), "01:02:00"),
        (ID, str(ID)),
        (Path("/a/b"), "/a/b"),
        (PurePosixPath("c"), "c"),
        (Index(), 7),
        (Measure(), 2.5),
        (Scalar(), 1.5),
        (Array(), [[1, 2], [3, 1.5]]),
        (Point(1, "y"), [1, "y"]),
        ((1, (2,)), [1, [2]]),
        (range(3), [0, 1, 2]),
        (deque([1]), [1]),
        (UserList([1]), [1]),
        (UserString("user"), "user"),
        (UserDict({"a": 1}), {"a": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (MappingProxyType({"a": MappingProxyType({})}), {"a": {}}),
        (Lazy(), {"a": 1}),
        (Outer(), {"name": "n", "inner": {"when": "2026-11-29"}}),
        (
            {1: "a", 2.5: "b", False: "c", None: "d", Level.HIGH: "e", ID: "f", b"g\xff": "g"},
            {"1": "a", "2.5": "b", "false": "c", "null": "d", "high": "e", str(ID): "f", "g\udcff": "g"},
        ),
        ("\udcff é", "\udcff é"),
        (Proxy("text"), "text"),
        (Proxy(b"b"), b"b"),
        (Proxy(5), 5),
        (Proxy(1.5), 1.5),
        (Proxy(True), True),
        (Proxy({"a": [1]}), {"a": [1]}),
        (Proxy([1]), [1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_converted_values(value, expected):
    (got,) = converted("kong.f", [value])
    assert got == expected
    _assert_exact(got)


def _assert_exact(value: Any) -> None:
    """Only Python's own types: no code of the author runs later, while a lock is held."""
    assert type(value) in (str, bytes, int, float, bool, type(None), list, dict)
    if isinstance(value, dict):
        assert all(type(key) is str for key in value)
        for item in value.values():
            _assert_exact(item)
    elif isinstance(value, list):
        for item in value:
            _assert_exact(item)


def deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def cycle() -> Any:
    value: dict[str, Any] = {}
    value["more"] = [value, value]
    return value


def shared(levels: int) -> Any:
    """Few objects that stand for very many values."""
    value: Any = ["a"]
    for _ in range(levels):
        value = [value] * 10
    return value


def released() -> memoryview:
    view = memoryview(b"abc")
    view.release()
    return view


class Endless(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        return key

    def __iter__(self) -> Iterator[str]:
        number = 0
        while True:
            number += 1
            yield str(number)

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.nan, "the number nan"),
        ([math.inf], r"\[0\] is the number inf"),
        (Decimal("Infinity"), "the number Infinity"),
        (Decimal("1e999"), "too large"),
        (10**400, "too large"),
        (object(), "type object"),
        ({"a": {1, 2}}, r"\['a'\] is a value of type set.*make it a list"),
        ((item for item in "ab"), "type generator.*make it a list"),
        ({}.keys(), "type dict_keys.*list"),
        (iter([]), "list_iterator"),
        (lambda: 1, "type function"),
        (int, "type type"),
        (SimpleNamespace(a=1), "type SimpleNamespace"),
        (datetime.timedelta(1), "type timedelta"),
        (ValueError("no"), "type ValueError"),
        (1j, "type complex"),
        ({(1, 2): 1}, "key of type tuple"),
        ({1: "a", "1": "b"}, r"\['1'\].*twice"),
        ({"a": ["b", {"c": object()}]}, r"\['a'\]\[1\]\['c'\] is a value of type object"),
        ("\ud800", "no text in UTF-8"),
        (deep(MAX_DEPTH + 1), "nested too deeply"),
        (cycle(), "nested too deeply"),
        (shared(9), f"more than {MAX_VALUES} values"),
        (range(10**12), f"more than {MAX_VALUES} values"),
        (Endless(), f"more than {MAX_VALUES} values"),
        (["x" * 2**26] * 5, f"text of more than {MAX_CHARACTERS} characters"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_refused_values(value, words):
    with pytest.raises(ArgumentError, match=rf"^kong\.f: argument 2.*{words}"):
        converted("kong.f", ["first", value])


def test_the_deepest_value_is_sent():
    assert converted("kong.f", [deep(MAX_DEPTH)]) == [deep(MAX_DEPTH)]


def test_an_exception_of_an_author_s_object_is_raised():
    class Broken(Mapping[str, Any]):
        __getitem__ = __iter__ = __len__ = lambda self, *_: 1 / 0  # type: ignore[assignment]

    with pytest.raises(ZeroDivisionError):
        converted("kong.f", [Broken()])


class Wordless:
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        (b"\xff", b"\xff"),
        (bytearray(b"b"), b"b"),
        (memoryview(b"abcd")[::2], b"ac"),
        (None, "nil"),
        (True, True),
        (False, False),
        (5, 5),
        (http.HTTPStatus.FORBIDDEN, 403),
        (2**70, str(2**70)),
        (Text("t"), "t"),
        (1.5, 1.5),
        ({"a": [1, None, "b"]}, "{'a': [1, None, 'b']}"),
        ((None, "error"), "(None, 'error')"),
        (ValueError("no"), "no"),
        (Level.HIGH, "Level.HIGH"),
        (Decimal("1.50"), "1.50"),
        ("\ud800", "\\ud800"),
        (Proxy("text"), "text"),
        (Proxy(5), "5"),
        (Wordless(), "<Wordless; its text cannot be made: RuntimeError: no words>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_line_of_the_log(value, expected):
    got = log_argument(value)
    assert got == expected and type(got) is type(expected)


@pytest.mark.parametrize(
    "value",
    [
        cycle(),
        deep(10_000),
        shared(9),
        10**10_000,
        "x" * 2**20,
        b"x" * 2**20,
        [0] * 10**6,
        ["x" * 2**20] * 1000,
        released(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_line_of_the_log_is_never_refused_and_never_very_long(value):
    assert 0 < len(log_argument(value)) <= MAX_LOG_TEXT + 100


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, None, ValueError("no")], 2: (True,)}, {"a": [1, "nil", "no"], "2": [True]}),
        ("text", "text"),
        (None, "nil"),
    ],
)
def test_inspect_shows_tables(value, expected):
    assert inspect_argument(value) == expected


def test_inspect_is_bounded():
    assert isinstance(inspect_argument(cycle()), str)
