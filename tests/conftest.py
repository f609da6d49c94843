"""For all tests."""

from __future__ import annotations

import signal

import pytest


def pytest_configure() -> None:
    """Let signals of the keyboard end what the tests start, even where a shell runs the tests in the background.

    Such a shell has them ignored, and programs inherit that.
    """
    pytest.register_assert_rewrite("unit.kong_pdk_style.promises")  # its assertions are those of several tests
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)
