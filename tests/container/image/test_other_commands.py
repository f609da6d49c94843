"""The image runs any command that Kong's own image runs, with the plugins in its environment and no servers."""

from __future__ import annotations

import json
import re

import pytest
from container.containers import Finished
from container.log_lines import ALWAYS
from container.product import PY_HELLO, Launcher, declarative

BROKEN = "class Plugin:\n    def __init__(self, config):\n        pass\n\n    def acces(self, kong):\n        pass\n"
QUERY = 'sh -c "$KONG_PLUGINSERVER_PY_HELLO_QUERY_CMD"'


def run(kong: Launcher, *command: str, **env: str) -> Finished:
    return kong.run(*command, plugins=kong.folder({"py-hello.py": PY_HELLO}), config=declarative("py-hello"), env=env)


def test_kong_version(kong: Launcher) -> None:
    """`docker run IMAGE kong version` prints Kong's version and nothing else on standard output."""
    done = run(kong, "kong", "version")

    assert done.exit_code == 0, done.output
    [line] = done.stdout.splitlines()
    assert re.match(r"(Kong Enterprise )?\d+\.\d+", line)
    # A real one may speak of the settings that it loads first.
    assert [
        line for line in done.stderr.splitlines() if not any(re.search(known.pattern, line) for known in ALWAYS)
    ] == []


def test_bash(kong: Launcher) -> None:
    """`docker run IMAGE bash` finds in its environment what makes Kong know the plugins."""
    done = run(kong, "bash", "-c", "env")

    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert "KONG_PLUGINS=bundled,py-hello" in lines
    assert "KONG_PLUGINSERVER_NAMES=py-hello" in lines


def test_the_query_command(kong: Launcher) -> None:
    """The query command prints JSON alone: what Kong needs to know of the plugin."""
    done = run(kong, "bash", "-c", QUERY)

    dump = json.loads(done.stdout)
    plugins = dump["Plugins"] if isinstance(dump, dict) else dump
    [plugin] = plugins
    assert (plugin["Name"], plugin["Priority"], plugin["Phases"]) == ("py-hello", 0, ["access"])


def test_the_exit_status_is_the_commands(kong: Launcher) -> None:
    """The status of a command is the container's."""
    assert run(kong, "bash", "-c", "exit 7").exit_code == 7


def test_a_command_that_does_not_exist(kong: Launcher) -> None:
    """A command that is not there ends with the status that a shell gives it, 127."""
    assert run(kong, "no-such-command").exit_code == 127


def test_kong_check(kong: Launcher) -> None:
    """Kong's own commands load the configuration with the plugins in it."""
    conf = kong.file("database = off\n")
    done = kong.run(
        "kong",
        "check",
        "/opt/kong/kong.conf",
        plugins=kong.folder({"py-hello.py": PY_HELLO}),
        options=[f"--volume={conf}:/opt/kong/kong.conf:ro"],
    )

    assert done.exit_code == 0, done.output
    assert "is valid" in done.output


@pytest.mark.parametrize("command", [("kong", "version"), ("bash", "-c", "true")])
def test_broken_plugins_only_warn(kong: Launcher, command: tuple[str, ...]) -> None:
    """A broken plugin does not keep another command from running: it may be there to look into it."""
    done = kong.run(*command, plugins=kong.folder({"broken.py": BROKEN}))

    assert done.exit_code == 0, done.output
    assert 'did you mean "access"?' in done.stderr
    assert "broken.py" not in done.stdout
