"""The image runs any command that Kong's image runs, with the plugins in its environment and without servers."""

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
    """`docker run IMAGE kong version` prints only Kong's version on standard output."""
    done = run(kong, "kong", "version")

    assert done.exit_code == 0, done.output
    [line] = done.stdout.splitlines()
    assert re.match(r"(Kong Enterprise )?\d+\.\d+", line)
    # A real Kong may first report the settings that it loads.
    assert [
        line for line in done.stderr.splitlines() if not any(re.search(known.pattern, line) for known in ALWAYS)
    ] == []


def test_bash(kong: Launcher) -> None:
    """`docker run IMAGE bash` has the variables in its environment that tell Kong the plugins."""
    done = run(kong, "bash", "-c", "env")

    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert "KONG_PLUGINS=bundled,py-hello" in lines
    assert "KONG_PLUGINSERVER_NAMES=py-hello" in lines


def test_the_query_command(kong: Launcher) -> None:
    """The query command prints only JSON: Kong's description of the plugin."""
    done = run(kong, "bash", "-c", QUERY)

    dump = json.loads(done.stdout)
    plugins = dump["Plugins"] if isinstance(dump, dict) else dump
    [plugin] = plugins
    assert (plugin["Name"], plugin["Priority"], plugin["Phases"]) == ("py-hello", 0, ["access"])


def test_the_exit_status_is_the_commands(kong: Launcher) -> None:
    """A command's status is the container's."""
    assert run(kong, "bash", "-c", "exit 7").exit_code == 7


def test_a_command_that_does_not_exist(kong: Launcher) -> None:
    """A missing command ends with 127, as in a shell."""
    assert run(kong, "no-such-command").exit_code == 127


def test_kong_check(kong: Launcher) -> None:
    """Kong's own commands load the configuration with its plugins."""
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
    """A broken plugin does not stop another command, which may be needed to inspect it."""
    done = kong.run(*command, plugins=kong.folder({"broken.py": BROKEN}))

    assert done.exit_code == 0, done.output
    assert 'did you mean "access"?' in done.stderr
    assert "broken.py" not in done.stdout
