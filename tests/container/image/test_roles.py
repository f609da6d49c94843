"""Hybrid mode: a control plane loads the plugins' schemas and runs no plugin; a data plane runs the plugins.

Neither role serves here: a control plane needs a database, a data plane a control plane, and the stand-in has no
hybrid mode. The image's work before Kong's start is the same.
"""

from __future__ import annotations

import pytest
from container import log_lines
from container.product import PY_HELLO, Kong, Launcher

CONTROL_PLANE = {"KONG_ROLE": "control_plane"}


def ended(kong: Launcher, *command: str, **env: str) -> Kong:
    """Start Kong with a role that fails here, and wait until it has ended."""
    container = kong.start(
        *command,
        plugins=kong.folder({"py-hello.py": PY_HELLO}),
        env={"KONG_DECLARATIVE_CONFIG": "", **env},
        expected=log_lines.KONG_REFUSES_TO_START,
        ports=(),
    )
    assert container.wait_exit() != 0
    return container


def test_a_control_plane_starts_no_server(kong: Launcher) -> None:
    """With KONG_ROLE=control_plane Kong starts without plugin servers, and the log says so once."""
    container = ended(kong, **CONTROL_PLANE)

    notices = [line.text for line in container.lines("kong-python", "notice")]
    assert sum("this is a control plane" in text for text in notices) == 1
    assert any("every plugin server answers (0)" in line.text for line in container.lines("kong"))
    assert container.lines("py-hello") == []


def test_the_role_in_kong_conf(kong: Launcher) -> None:
    """The role may be set in kong.conf."""
    conf = kong.file("role = control_plane\n")
    container = kong.start(
        plugins=kong.folder({"py-hello.py": PY_HELLO}),
        env={"KONG_DECLARATIVE_CONFIG": ""},
        options=[f"--volume={conf}:/etc/kong/kong.conf:ro"],
        expected=log_lines.KONG_REFUSES_TO_START,
        ports=(),
    )
    assert container.wait_exit() != 0
    assert container.lines("py-hello") == []


def test_a_data_plane_starts_all_servers(kong: Launcher) -> None:
    """With KONG_ROLE=data_plane every plugin server answers before Kong is started."""
    container = ended(kong, KONG_ROLE="data_plane")

    assert any("every plugin server answers (1)" in line.text for line in container.lines("kong"))
    assert not any("control plane" in line.text for line in container.lines("kong-python"))


def test_a_control_plane_knows_the_schemas(kong: Launcher) -> None:
    """A control plane has the same environment as every other Kong: the plugin's name and its query command."""
    folder = kong.folder({"py-hello.py": PY_HELLO})
    script = 'echo "$KONG_PLUGINS"; $KONG_PLUGINSERVER_PY_HELLO_QUERY_CMD'
    done = kong.run("bash", "-c", script, plugins=folder, env=CONTROL_PLANE)

    assert done.exit_code == 0, done.output
    names, dump = done.stdout.split("\n", 1)
    assert names == "bundled,py-hello"
    assert '"message"' in dump


@pytest.mark.parametrize(("role", "state"), [("control_plane", "schema only"), ("data_plane", "ok")])
def test_plugins_of_a_role(kong: Launcher, role: str, state: str) -> None:
    """`kong-python plugins` says that a control plane only needs the schema."""
    folder = kong.folder({"py-hello.py": PY_HELLO})
    done = kong.run("kong-python", "plugins", plugins=folder, env={"KONG_ROLE": role})

    assert done.exit_code == 0, done.output
    assert done.stdout.rstrip().endswith(f"  {state}")
