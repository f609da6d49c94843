"""A strict JSON parser: it refuses texts that the service's parser could read differently."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_LONGEST_TEXT = 100
_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


class Malformed(ValueError):
    """The text is not JSON, or parsers read it differently."""

    def __init__(self, reason: str, **place: int) -> None:
        """:param place: ``line`` and ``column``, counted from 1, if they are known."""
        super().__init__(reason)
        self.reason = reason
        self.place = place

    def __str__(self) -> str:
        where = ", ".join(f"{name} {number}" for name, number in self.place.items())
        return f"{self.reason} ({where})" if where else self.reason


def parse(body: bytes) -> Any:
    """Read one JSON value in UTF-8.

    :raises Malformed: the text is not JSON, or has a name twice in one object, NaN, Infinity, a number beyond a double,
        or half of a surrogate pair.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"the byte at offset {error.start} is not UTF-8") from None
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
        )
    except json.JSONDecodeError as error:
        raise Malformed(error.msg, line=error.lineno, column=error.colno) from None
    except RecursionError:
        raise Malformed("it is nested too deeply") from None
    if _HALF_A_PAIR.search(text) and not _is_unicode(value):
        raise Malformed("it has half of a surrogate pair")
    return value


def short(text: str, most: int = _LONGEST_TEXT) -> str:
    """Cut a long text."""
    return text if len(text) <= most else text[:most] + "..."


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, item in pairs:
        if name in value:
            raise Malformed(f"the name {short(json.dumps(name))} comes twice in one object")
        value[name] = item
    return value


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise Malformed(f"the number {short(text)} is too large")
    return number


def _integer(text: str) -> int:
    _float(text)  # which also keeps int from the thousands of digits that it refuses
    return int(text)


def _constant(text: str) -> Any:
    raise Malformed(f"{text} is not JSON")


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
