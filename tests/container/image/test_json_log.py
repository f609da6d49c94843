"""KONG_PYTHON_LOG_FORMAT=json: each line of docker logs is a JSON object, from the first to the last."""

from __future__ import annotations

import re

import pytest
from container import log_lines
from container.log_lines import Expected, raised_by
from container.product import TEST_PLUGINS, Kong, Launcher, declarative

JSON = {"KONG_PYTHON_LOG_FORMAT": "json"}


def start(kong: Launcher, *plugins: str, **env: str) -> Kong:
    files = {f"{name}.py": TEST_PLUGINS / f"{name}.py" for name in plugins}
    container = kong.start(plugins=kong.folder(files), config=declarative(*plugins), env={**JSON, **env})
    container.wait_until_serving()
    return container


def test_a_whole_life(kong: Launcher) -> None:
    """The lines of every program are objects with time, level, program and message, also the last line."""
    container = start(kong, "speaks")
    container.request("/this/path")
    container.wait_for_log("speaks: through Kong")
    assert container.stop() == 0

    lines = log_lines.parse(container.logs())
    assert {line.program for line in lines} >= {"kong-python", "kong", "speaks", "supervisord"}
    of_kong = [line.text for line in lines if (line.program, line.level) == ("kong", "info")]
    assert sum("GET /this/path" in text for text in of_kong) == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KONG_PYTHON_PROTOCOL", "protobuf"),
        ("KONG_PYTHON_PROTOCOL", "msgpack"),
        ("KONG_PYTHON_WORKERS", "2"),
        ("KONG_PYTHON_ENGINE", "gevent"),
    ],
)
def test_a_handler_that_raises(kong: Launcher, variable: str, value: str) -> None:
    """The message and the traceback of a handler that raises are one object, in every mode."""
    container = start(kong, "raises", **{variable: value})
    container.expect(raised_by("raises"))
    assert container.request(headers={"x-raise": "this very text"}).status == 500
    container.wait_for_log("this very text")

    [line] = container.lines("raises", "error")
    assert re.search(r"Traceback \(most recent call last\):\n(.*\n)+ValueError: the request asked for this", line.text)


def test_bytes_of_a_client_that_are_not_text(kong: Launcher) -> None:
    """Bytes from a client cannot break an object. They are in a header: Kong has no route for a path of such bytes."""
    container = start(kong, "raises")
    container.expect(raised_by("raises"))
    assert container.request(headers={"x-raise": "caf\xe9"}).status == 500
    container.wait_for_log("the request asked for")

    assert any("caf" in line.text for line in container.lines("raises", "error"))


def test_a_server_that_is_killed(kong: Launcher) -> None:
    """Messages of supervisord have the form, too."""
    container = start(kong, "speaks")
    container.expect(
        Expected("supervisord", "warn", r"exited: speaks \(", "the test killed this plugin server"),
        Expected("kong", "warn|error", r"speaks|(pb|mp)_rpc\.lua", "its connections are gone"),
    )
    pids = container.pids_of_server("speaks")
    container.kill("KILL", *pids)
    container.wait_for(lambda: container.lines("supervisord", "warn"), "word of the killed server")

    assert any("exited: speaks" in line.text for line in container.lines("supervisord", "warn"))
    container.wait_for(lambda: container.exec("kong-python", "health", check=False).exit_code == 0, "health")


def test_a_mistake(kong: Launcher) -> None:
    """Each problem that keeps Kong from starting is an object of level error."""
    done = kong.run(plugins=kong.folder({"broken.py": "class Plugin:\n    def access(self, kong)\n"}), env=JSON)

    assert done.exit_code == 78
    lines = log_lines.parse(done.output)
    assert {(line.program, line.level) for line in lines} == {("kong-python", "error")}
    assert any("broken.py:2" in line.text for line in lines)


def test_an_unknown_format(kong: Launcher) -> None:
    """Another format is refused by a text message."""
    done = kong.run(plugins=kong.folder({}), env={"KONG_PYTHON_LOG_FORMAT": "yaml"})

    assert done.exit_code == 78
    [line] = log_lines.parse(done.output)
    assert line.text == "KONG_PYTHON_LOG_FORMAT is 'yaml'; set it to text or json"
