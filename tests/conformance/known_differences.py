"""The cases that differ from the recordings, each with its reason. A listed case that agrees fails.

A rule describes the contents of a case, not its number, so that it holds for other recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from conformance.recordings import Case

SERVER, GATEWAY = "server", "gateway"
MOST = 0.02
"""The largest part of all cases that may differ, in each direction."""

PROPERTY = "conformance"
"""The property of a test by which conftest.py counts the cases."""


@dataclass(frozen=True)
class Rule:
    """A rule: its direction, its cases, its reason, and a pattern of the difference."""

    direction: str
    reason: str
    applies: Callable[[Case], bool]
    difference: str


def rule_for(direction: str, case: Case) -> Rule | None:
    """Find the rule of a case; None for a case that must agree."""
    return next((rule for rule in RULES if rule.direction == direction and rule.applies(case)), None)


def judge(case: Case, direction: str, mode: str, run: Callable[[], None], request: pytest.FixtureRequest) -> None:
    """Run a case. It must agree with the recording, or differ as its rule says.

    :param run: raises an AssertionError where something differs.
    """
    rule = rule_for(direction, case)
    request.node.user_properties.append((PROPERTY, [direction, mode, case.name, rule.reason if rule else ""]))
    if rule is None:
        run()
        return
    with pytest.raises(AssertionError, match=rule.difference):
        run()


def _orders(case: Case, *functions: str) -> Iterator[list[Any]]:
    """Give the arguments of the calls of these functions."""
    for phase in case.orders.values():
        for method, args in phase:
            if method.replace("/", ".") in functions:
                yield args


def _loses_headers(case: Case) -> bool:
    exits = _orders(case, "kong.response.exit", "kong.response.error")
    return case.protocol == "MsgPack:1" and any(len(args) == 3 and args[1] is None for args in exits)


def _has_no_name(case: Case) -> bool:
    stock = case.protocol == "ProtoBuf:1" and not case.recording.extended
    return stock and any(args in ([], [None]) for args in _orders(case, "kong.request.get_header"))


_HEADER_SETTERS = tuple(
    f"kong.{part}.{name}" for part in ("response", "service.request") for name in ("set_header", "add_header")
)


def _sets_no_value(case: Case) -> bool:
    return any(args[1:] in ([], [None]) for args in _orders(case, *_HEADER_SETTERS))


RULES = (
    Rule(
        SERVER,
        "a nil body costs Kong the headers behind it (MsgPack:1), so ours sends an empty string",
        _loses_headers,
        r"kong\.response\.\w+\(\d+, '', .* was called, kong\.response\.\w+\(\d+, None, .* was recorded",
    ),
    Rule(
        SERVER,
        "get_header without a name is an error in Python, and does not ask Kong for the header '' (ProtoBuf:1, stock)",
        _has_no_name,
        r"the handler ended, kong\.request\.get_header\('',\) was recorded",
    ),
    Rule(
        SERVER,
        "a header without a value is an error in Python that names the line, and no 500 of Kong's",
        _sets_no_value,
        r"_header: argument 2, the value, is None|the handler ended, kong\.[\w.]+_header\('[^']*',\) was recorded",
    ),
)
