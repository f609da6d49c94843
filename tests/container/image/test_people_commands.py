"""The commands of `kong-python` for people, in a running container and in a new one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from container.containers import Finished
from container.product import PLUGINS, PY_HELLO, Kong, Launcher, declarative

BROKEN = "class Plugin:\n    def __init__(self, config):\n        pass\n\n    def acces(self, kong):\n        pass\n"


@pytest.fixture(scope="module")
def hello(shared: Launcher) -> Kong:
    container = shared.start(plugins=shared.folder({"py-hello.py": PY_HELLO}), config=declarative("py-hello"))
    container.wait_until_serving()
    return container


def test_plugins_of_a_running_container(hello: Kong) -> None:
    """`docker exec C kong-python plugins` is a table: name, version, priority, phases, mode, file and state."""
    table = hello.exec("kong-python", "plugins").stdout
    row = next(line for line in table.splitlines() if line.split()[0] == "py-hello")

    assert row.split() == ["py-hello", "0.1.0", "0", "access", "loop", f"{PLUGINS}/py-hello.py", "running"]


def test_plugins_before_kong_is_started(kong: Launcher) -> None:
    """`docker run IMAGE kong-python plugins` shows the folder, a message for each broken plugin, and ends with 78."""
    folder = kong.folder({"py-hello.py": PY_HELLO, "broken.py": BROKEN})
    done = kong.run("kong-python", "plugins", plugins=folder)

    assert done.exit_code == 78
    row = next(line for line in done.stdout.splitlines() if line.split()[0] == "broken")
    assert 'did you mean "access"?' in row
    assert any(line.startswith("py-hello") and line.split()[-1] == "ok" for line in done.stdout.splitlines())


def test_env(hello: Kong) -> None:
    """`kong-python env` prints the variables for Kong as lines for a shell."""
    lines = hello.exec("kong-python", "env").stdout.splitlines()

    assert "KONG_PLUGINS=bundled,py-hello" in lines
    assert "KONG_PLUGINSERVER_NAMES=py-hello" in lines
    assert {line.split("=")[0] for line in lines} == {
        "KONG_PLUGINS",
        "KONG_PLUGINSERVER_NAMES",
        "KONG_PLUGINSERVER_PY_HELLO_SOCKET",
        "KONG_PLUGINSERVER_PY_HELLO_QUERY_CMD",
    }


def test_env_as_json(hello: Kong) -> None:
    """`kong-python env --json` prints the same for programs."""
    assert json.loads(hello.exec("kong-python", "env", "--json").stdout)["KONG_PLUGINS"] == "bundled,py-hello"


def test_health_of_a_running_container(hello: Kong) -> None:
    """`kong-python health` of a healthy container ends with 0."""
    hello.wait_for(lambda: hello.exec("kong-python", "health", check=False).exit_code == 0, "health")


def test_supervisorctl(hello: Kong) -> None:
    """`supervisorctl status` shows Kong and the plugin's server as running."""
    rows = [line.split()[:2] for line in hello.exec("supervisorctl", "status").stdout.splitlines()]

    assert ["plugins:py-hello", "RUNNING"] in rows
    assert ["kong", "RUNNING"] in [[row[0].split(":")[-1], row[1]] for row in rows]


def check(kong: Launcher, config: str) -> Finished:
    """`kong-python check kong.yml` on a mounted file."""
    folder = kong.folder({"py-hello.py": PY_HELLO})
    file: Path = kong.file(config)
    options = [f"--volume={file}:/srv/kong.yml:ro"]
    return kong.run("kong-python", "check", "/srv/kong.yml", plugins=folder, options=options)


def test_check_of_a_good_file(kong: Launcher) -> None:
    """`kong-python check` of a valid file ends with 0."""
    done = check(kong, declarative({"name": "py-hello", "config": {"message": "hi"}}))

    assert done.exit_code == 0, done.output


def test_check_of_a_wrong_type(kong: Launcher) -> None:
    """A plugin's configuration that does not fit its Schema is refused with the field and Kong's message."""
    done = check(kong, declarative({"name": "py-hello", "config": {"message": 42}}))

    assert done.exit_code not in (0, 127), done.output
    assert "message" in done.output
    assert "expected a string" in done.output
    assert "Traceback" not in done.output


def test_check_of_an_unknown_plugin(kong: Launcher) -> None:
    """A plugin that is not installed is named."""
    done = check(kong, declarative("py-helo"))

    assert done.exit_code not in (0, 127), done.output
    assert "py-helo" in done.output
    assert "Traceback" not in done.output


def test_version(kong: Launcher) -> None:
    """`kong-python --version` names the image's own version."""
    done = kong.run("kong-python", "--version")

    assert (done.exit_code, done.stdout.split()[0]) == (0, "kong-python")
