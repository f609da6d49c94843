"""Report how many cases of each direction agree with the recordings, which do not, and why."""

from __future__ import annotations

from collections import Counter

import pytest
from conformance.known_differences import PROPERTY
from conformance.recordings import FOLDER

_OUTCOMES = ("agree", "known", "differ")
_COUNTS: dict[tuple[str, str], Counter[str]] = {}
_KNOWN: dict[str, set[str]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the cases."""
    for name, value in report.user_properties:
        if name == PROPERTY and report.when == "call":
            direction, mode, case, why = value
            outcome = "differ" if report.failed else "known" if why else "agree"
            _COUNTS.setdefault((direction, mode), Counter())[outcome] += 1
            if why:
                _KNOWN.setdefault(f"{direction}: {why}", set()).add(case)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts, and each known difference with its reason."""
    if not _COUNTS:
        return
    terminalreporter.section(f"conformance with {FOLDER.name}")
    terminalreporter.line(f"{'':42}{'cases':>7}" + "".join(f"{outcome:>12}" for outcome in _OUTCOMES))
    for (direction, mode), counted in sorted(_COUNTS.items()):
        row = "".join(f"{counted[outcome]:12}" for outcome in _OUTCOMES)
        terminalreporter.line(f"{f'{direction}, {mode}':42}{counted.total():7}{row}")
    for why, cases in sorted(_KNOWN.items()):
        terminalreporter.line(f"{why}: {', '.join(sorted(cases))}")
