"""Counts the inputs that tests try, by kind, and says at the end of a run how many there were.

A module of tests whose inputs count names their kind in a variable ``INPUTS``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import wraps
from typing import Any

import pytest

_KIND = "INPUTS"
_TRIED = "inputs tried"
_counted: Counter[str] = Counter()


def count_examples(test: pytest.Function) -> None:
    """Count each call of the function that Hypothesis gives its examples to."""
    kind = getattr(test.module, _KIND, None)
    hypothesis = getattr(test.obj, "hypothesis", None)
    if kind is None or hypothesis is None or hasattr(hypothesis.inner_test, _TRIED):
        return
    inner = hypothesis.inner_test

    @wraps(inner)
    def counting(*args: Any, **kwargs: Any) -> Any:
        _counted[kind] += 1
        return inner(*args, **kwargs)

    setattr(counting, _TRIED, True)  # the cases of a parametrized test share their function
    hypothesis.inner_test = counting


def note_counts(test: pytest.Function) -> None:
    """Put what was counted into the test's report, which travels from one testing process to another."""
    test.user_properties.extend((_TRIED, list(item)) for item in _counted.items())
    _counted.clear()


def total(properties: Iterable[tuple[str, object]]) -> list[str]:
    """Sum up the counts of all reports: a line for each kind, and one for all."""
    counts: Counter[str] = Counter()
    for name, value in properties:
        if name == _TRIED and isinstance(value, list):
            counts[value[0]] += value[1]
    lines = [f"{count:9,} {kind}" for kind, count in sorted(counts.items())]
    return [*lines, f"{counts.total():9,} in all"] if lines else []
