"""Rules that change a JSON document: they remove, mask, set or rename the values that a JSONPath selects."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, TypeAlias

import simplejson
from jsonpath import JSONPath, JSONPathEnvironment, JSONPathError
from jsonpath.segments import JSONPathChildSegment
from jsonpath.selectors import NameSelector

MASK = "****"

Place: TypeAlias = tuple[Any, Any]
"""The place of a value: its object or array, and its name or index there."""

Change: TypeAlias = Callable[[Iterable[Place]], None]


class RuleError(ValueError):
    """A rule is invalid; the message names the rule and the reason."""


class _Environment(JSONPathEnvironment):
    """Compares numbers of a document, which are Decimals, with numbers of a filter, which are floats."""

    def compare(self, left: object, operator: str, right: object) -> bool:
        """Compare two values in a filter."""
        return super().compare(_comparable(left), operator, _comparable(right))


def _comparable(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else value


_ENVIRONMENT = _Environment(strict=True)


class Rule:
    """A compiled rule of the configuration."""

    def __init__(self, number: int, given: Mapping[str, Any]) -> None:
        """:param number: the number of the rule, counted from 1.

        :raises RuleError: its path or its action is invalid.
        """
        try:
            path = _parse(given["path"])
            self._change = _CHANGES[given["action"]](given)
        except RuleError as error:
            raise RuleError(f"rule {number} ({given['action']} {given['path']}): {error}") from error
        # "set" can add a member; the other actions change only values that the path finds.
        self._path, self._member = _split(path) if given["action"] == "set" else (path, None)

    def apply(self, document: Any) -> bool:
        """Change a document in place.

        :return: whether the path found a value.
        :raises JSONPathError: the document is nested too deep for ``..``.
        """
        # Collect all matches before the first change: finditer walks the document.
        found = list(self._path.finditer(document))
        if self._member is not None:
            places: list[Place] = [(match.obj, self._member) for match in found if isinstance(match.obj, dict)]
        else:
            places = [(match.parent.obj, match.parts[-1]) for match in found if match.parent]
        self._change(places)
        return bool(places)


def _parse(text: str) -> JSONPath:
    try:
        path = _ENVIRONMENT.compile(text)
    except (JSONPathError, RecursionError) as error:
        reason = next(iter(str(error).splitlines()), "").strip() or type(error).__name__
        raise RuleError(f"the path is not JSONPath as RFC 9535 has it: {reason}") from error
    if not isinstance(path, JSONPath) or not path.segments:
        raise RuleError("the path names the body as a whole; name something in it")
    return path


def _split(path: JSONPath) -> tuple[JSONPath, str | None]:
    """Split a path that ends in a name into the path of its objects and the name."""
    last = path.segments[-1]
    if isinstance(last, JSONPathChildSegment) and len(last.selectors) == 1:
        [selector] = last.selectors
        if isinstance(selector, NameSelector):
            return JSONPath(env=path.env, segments=path.segments[:-1]), selector.name
    return path, None


def _remover(given: Mapping[str, Any]) -> Change:
    return _remove


def _remove(places: Iterable[Place]) -> None:
    arrays: dict[int, tuple[list[Any], set[int]]] = {}
    for container, key in places:
        if isinstance(container, dict):
            container.pop(key, None)
        else:
            arrays.setdefault(id(container), (container, set()))[1].add(key)
    for array, indexes in arrays.values():
        for index in sorted(indexes, reverse=True):
            del array[index]


def _masker(given: Mapping[str, Any]) -> Change:
    mask, shown = given.get("mask") or MASK, int(given.get("keep_last") or 0)
    return partial(_replace, lambda value: _masked(value, mask, shown))


def _masked(value: Any, mask: str, shown: int) -> str:
    text = str(value) if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else ""
    # Nothing of a short value is shown: the last four characters of "1234" are the whole value.
    return mask + text[-shown:] if shown and len(text) >= 2 * shown else mask


def _setter(given: Mapping[str, Any]) -> Change:
    value, text = given.get("value"), given.get("json")
    if (value is None) == (text is None):
        raise RuleError('give either a "value", which is text, or "json"')
    if text is not None:
        try:
            value = simplejson.loads(text, use_decimal=True)
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise RuleError(f'"json" is not JSON: {error}') from error
    # A copy for each place: a later rule may change it, and the next response needs the original.
    return partial(_replace, lambda old: copy.deepcopy(value))


def _replace(new: Callable[[Any], Any], places: Iterable[Place]) -> None:
    for container, key in places:
        container[key] = new(container.get(key) if isinstance(container, dict) else container[key])


def _renamer(given: Mapping[str, Any]) -> Change:
    if not given.get("name"):
        raise RuleError('give the new "name"')
    return partial(_rename, given["name"])


def _rename(new: str, places: Iterable[Place]) -> None:
    """Rename members of objects without a change of their order; another member with the new name is removed."""
    for container, old in places:
        if isinstance(container, dict) and old in container and old != new:
            members = [(new if name == old else name, value) for name, value in container.items() if name != new]
            container.clear()
            container.update(members)


_CHANGES: Mapping[str, Callable[[Mapping[str, Any]], Change]] = {
    "remove": _remover,
    "mask": _masker,
    "set": _setter,
    "rename": _renamer,
}
ACTIONS = tuple(_CHANGES)
