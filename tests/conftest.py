"""For all tests."""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import Callable, Generator, Iterator

import pytest
import tried_inputs
from greenlet import enable_optional_cleanup  # type: ignore[import-untyped, unused-ignore]
from kong_pdk import logs, masking

_SAID = "said"


def pytest_configure() -> None:
    """Let signals of the keyboard end what the tests start, even where a shell runs the tests in the background.

    Such a shell has them ignored, and programs inherit that.

    At the end of each thread that had greenlets, greenlet looks for leaks, in whatever the main thread does at that
    moment. It imports a module there, which fails in code without builtins, a named tuple's ``__new__`` for example.
    """
    enable_optional_cleanup(False)
    pytest.register_assert_rewrite(
        "integration.kong_pdk_style.plugin_checks"
    )  # its assertions are those of several tests
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Hide the thousands of collected tests from the garbage collector, which takes 0.1 s to look through them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Say what a test has measured or counted, in the summary of the whole run."""
    return lambda text: record_property(_SAID, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have said, and how many inputs they have tried."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    properties = [each for report in reports for each in report.user_properties]
    said = sorted(str(text) for name, text in properties if name == _SAID)
    for title, lines in (("measured", said), ("inputs tried", tried_inputs.total(properties))):
        if lines:
            terminalreporter.section(title)
            for text in lines:
                terminalreporter.line(text)


@pytest.fixture(autouse=True)
def _logging_of_no_program() -> Iterator[None]:
    """Undo what a test of a whole program did to ``logging`` in this process."""
    level = logging.root.level
    yield
    logs._output = None
    logging.root.setLevel(level)


@pytest.fixture(autouse=True)
def _no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test begin with no secret that this process knows."""
    monkeypatch.setattr(masking, "_known", {})
    monkeypatch.setattr(masking, "_kept", {})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let reports travel from one testing process to another: what is not UTF-8 cannot, and would end them all."""
    report = yield
    if hasattr(item.config, "workerinput"):
        report.sections = [(name, _printable(text)) for name, text in report.sections]
        if report.failed:
            report.longrepr = _printable(report.longreprtext)
    return report


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
