"""docker logs is the one place to look: every line has its time, its level and its program, from the first on."""

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
    """Kong's lines, the servers' and the image's own have one form, the first line included."""
    lines = log_lines.parse(speaking.logs())

    assert {line.program for line in lines} >= {"kong-python", "kong", "speaks"}


def test_what_a_plugin_prints(speaking: Kong) -> None:
    """What a handler prints is in the log under the plugin's name, as soon as it is printed."""
    speaking.wait_for_log("speaks: on standard output")
    speaking.wait_for_log("speaks: on standard error")
    said = [line.text for line in speaking.lines("speaks")]

    assert any("on standard output" in text for text in said)
    assert any("on standard error" in text for text in said)


def test_what_a_plugin_logs_through_kong(speaking: Kong) -> None:
    """kong.log writes into Kong's log, at its level."""
    assert any("speaks: through Kong" in line.text for line in speaking.lines("kong", "notice"))


def test_requests_are_logged(speaking: Kong) -> None:
    """Kong's access log goes to docker logs, too."""
    speaking.request("/this/path")
    speaking.wait_for_log("GET /this/path")

    assert any("GET /this/path" in line.text for line in speaking.lines("kong"))


def test_nothing_goes_to_files(speaking: Kong) -> None:
    """No program of the image's own writes a log file that would grow in the container."""
    find = ("find", "/run/kong-python", "/tmp", "-name", "*.log*")

    # The `kong health` of a real Kong has a log file of its own for the second that it runs.
    speaking.wait_for(lambda: speaking.exec(*find, check=False).stdout == "", "no log file in the container")
