"""One case, run and judged: what the report of the conformance tests counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conformance.exceptions import reason
from conformance.recordings import Case

PROPERTY = "conformance"


def judge(case: Case, direction: str, mode: str, run: Callable[[], None], request: pytest.FixtureRequest) -> None:
    """Run a case, which must agree with the recording; an exception must differ.

    :param direction: ``server`` or ``gateway``.
    :param mode: which server or gateway it was.
    :param run: raises an AssertionError where something differs.
    """
    why = reason(direction, case)
    request.node.user_properties.append((PROPERTY, [direction, mode, case.name, why or ""]))
    if why is None:
        run()
        return
    try:
        run()
    except AssertionError:
        return
    pytest.fail(f"{case.name} agrees with the recording: its rule in exceptions.py ({why}) is no longer true")
