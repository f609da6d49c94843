"""One case, run and judged: what the report of the conformance tests counts."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from conformance.exceptions import rule_for
from conformance.recordings import Case

PROPERTY = "conformance"


def judge(case: Case, direction: str, mode: str, run: Callable[[], None], request: pytest.FixtureRequest) -> None:
    """Run a case, which must agree with the recording; an exception must differ.

    :param direction: ``server`` or ``gateway``.
    :param mode: which server or gateway it was.
    :param run: raises an AssertionError where something differs.
    """
    rule = rule_for(direction, case)
    request.node.user_properties.append((PROPERTY, [direction, mode, case.name, rule.reason if rule else ""]))
    if rule is None:
        run()
        return
    try:
        run()
    except AssertionError as difference:
        if not re.search(rule.difference, str(difference)):
            raise
        return
    pytest.fail(f"{case.name} agrees with the recording: its rule in exceptions.py ({rule.reason}) is no longer true")
