"""The report of the conformance tests: how many cases of each direction agree, and which do not, and why."""

from __future__ import annotations

from collections import Counter

import pytest
from conformance.recordings import FOLDER
from conformance.verdict import PROPERTY

_OUTCOMES = ("agree", "exceptions", "differ")
_RESULTS: dict[tuple[str, str], Counter[str]] = {}
_EXCEPTIONS: dict[str, set[str]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the cases."""
    for name, value in report.user_properties:
        if name == PROPERTY and report.when == "call":
            direction, mode, case, why = value
            outcome = "differ" if report.failed else "exceptions" if why else "agree"
            _RESULTS.setdefault((direction, mode), Counter())[outcome] += 1
            if why:
                _EXCEPTIONS.setdefault(f"{direction}: {why}", set()).add(case)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts, and each exception with its reason."""
    if not _RESULTS:
        return
    terminalreporter.section(f"conformance with {FOLDER.name}")
    terminalreporter.line(f"{'':42}{'cases':>7}" + "".join(f"{outcome:>12}" for outcome in _OUTCOMES))
    for (direction, mode), counted in sorted(_RESULTS.items()):
        row = "".join(f"{counted[outcome]:12}" for outcome in _OUTCOMES)
        terminalreporter.line(f"{f'{direction}, {mode}':42}{counted.total():7}{row}")
    for why, cases in sorted(_EXCEPTIONS.items()):
        terminalreporter.line(f"{why}: {', '.join(sorted(cases))}")
