"""docker logs holds everything: every line has its time, level and program, from the first on."""

from __future__ import annotations

import pytest
from container import log_lines
from container.product import TEST_PLUGINS, Kong, Launcher, declarative


@pytest.fixture(scope="module")
def speaking(shared: Launcher) -> Kong:
    container = shared.start(
        plugins=shared.folder({"speaks.py": TEST_PLUGINS / "speaks.py"}), config=declarative("speaks")
    )
    container.wait_until_serving()
    container.wait_for_log("speaks: through Kong")
    return container


def test_every_line_names_time_level_and_program(speaking: Kong) -> None:
    """Lines of Kong, the servers and the image have one form, also the first line."""
    lines = log_lines.parse(speaking.logs())

    assert {line.program for line in lines} >= {"kong-python", "kong", "speaks"}


def test_what_a_plugin_prints(speaking: Kong) -> None:
    """Output of a handler is in the log under the plugin's name, as soon as it is printed."""
    speaking.wait_for_log("speaks: on standard output")
    speaking.wait_for_log("speaks: on standard error")
    texts = [line.text for line in speaking.lines("speaks")]

    assert any("on standard output" in text for text in texts)
    assert any("on standard error" in text for text in texts)


def test_what_a_plugin_logs_through_kong(speaking: Kong) -> None:
    """kong.log writes into Kong's log, at its level."""
    assert any("speaks: through Kong" in line.text for line in speaking.lines("kong", "notice"))


def test_requests_are_logged(speaking: Kong) -> None:
    """Kong's access log goes to docker logs, too."""
    speaking.request("/this/path")
    speaking.wait_for_log("GET /this/path")

    assert any("GET /this/path" in line.text for line in speaking.lines("kong"))


def test_nothing_goes_to_files(speaking: Kong) -> None:
    """No program of the image writes a log file that would grow in the container."""
    find = ("find", "/run/kong-python", "/tmp", "-name", "*.log*")

    # The `kong health` of a real Kong writes a log file during the second that it runs.
    speaking.wait_for(lambda: speaking.exec(*find, check=False).stdout == "", "no log file in the container")
