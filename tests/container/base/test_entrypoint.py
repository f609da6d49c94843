"""The entrypoint's work before Kong runs: values from files, leftover sockets, the prefix, the logs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from container.base.nodes import StartNode, environment_of_kong, kong_env
from container.containers import run_once

Folder = Callable[..., Path]

_LISTEN = "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => $_, Listen => 1) or die $! for @ARGV' "


def test_an_option_can_come_from_a_file(start_node: StartNode, folder: Folder) -> None:
    """KONG_X_FILE names the file whose content becomes KONG_X, for secrets mounted as files."""
    secrets = folder({"level": "info\n"})
    node = start_node(env={"KONG_LOG_LEVEL_FILE": "/secrets/level"}, options=["--volume", f"{secrets}:/secrets:ro"])
    assert "log_level = info" in kong_env(node)


def test_the_prefix_says_where_kong_listens(start_node: StartNode) -> None:
    """.kong_env has Kong's defaults, too: the health check finds the status listener there."""
    lines = kong_env(start_node())
    assert [line for line in lines if line.startswith("proxy_listen = 0.0.0.0:8000")]


def test_the_password_of_the_first_admin_can_come_from_a_file(kong_image: str, folder: Folder) -> None:
    """KONG_PASSWORD is not an option of Kong, but `kong migrations bootstrap` reads it: it has a _FILE form, too."""
    secrets = folder({"password": "hush\n"})
    env, options = {"KONG_PASSWORD_FILE": "/secrets/password"}, ["--volume", f"{secrets}:/secrets:ro"]
    found = environment_of_kong(kong_image, env, options)
    assert "KONG_PASSWORD=hush" in found
    assert not [entry for entry in found if entry.startswith("KONG_PASSWORD_FILE=")]


def test_a_value_and_a_file_for_it_are_an_error(kong_image: str, folder: Folder) -> None:
    """If both are set, the container ends with 1."""
    secrets = folder({"level": "info\n"})
    done = run_once(
        kong_image,
        "kong",
        "docker-start",
        env={"KONG_LOG_LEVEL_FILE": "/secrets/level", "KONG_LOG_LEVEL": "warn", "KONG_DATABASE": "off"},
        options=["--volume", f"{secrets}:/secrets:ro"],
    )
    assert done.exit_code == 1
    assert "KONG_LOG_LEVEL" in done.output
    assert "KONG_LOG_LEVEL_FILE" in done.output


def test_a_missing_file_is_only_reported(start_node: StartNode) -> None:
    """A missing file is reported, and the start continues."""
    # The official entrypoint leaves such an option empty; this one may be empty.
    node = start_node(env={"KONG_PG_PASSWORD_FILE": "/secrets/absent"})
    assert "/secrets/absent" in node.logs()


def test_settings_of_a_plugin_server_have_no_file_form(kong_image: str, folder: Folder) -> None:
    """Only Kong's own options can come from files; pluginserver_NAME_* cannot."""
    secrets = folder({"names": "aa\n", "socket": "/tmp/aa.sock\n"})
    found = environment_of_kong(
        kong_image,
        {"KONG_PLUGINSERVER_NAMES_FILE": "/secrets/names", "KONG_PLUGINSERVER_AA_SOCKET_FILE": "/secrets/socket"},
        ["--volume", f"{secrets}:/secrets:ro"],
    )
    assert "KONG_PLUGINSERVER_NAMES=aa" in found
    assert not [entry for entry in found if entry.startswith("KONG_PLUGINSERVER_AA_SOCKET=")]


def test_sockets_in_the_prefix_are_deleted(start_node: StartNode) -> None:
    """Every unix socket in the prefix and in its folder `sockets` is deleted with a warning."""
    command = (
        "mkdir -p /usr/local/kong/sockets && "
        + _LISTEN
        + "/usr/local/kong/mine.sock /usr/local/kong/sockets/theirs.sock /tmp/outside.sock && "
        + "exec /docker-entrypoint.sh kong docker-start"
    )
    node = start_node("bash", "-c", command)
    assert "found dangling unix sockets in the prefix directory" in node.logs()
    for path in ("/usr/local/kong/mine.sock", "/usr/local/kong/sockets/theirs.sock"):
        assert node.exec("test", "-e", path, check=False).exit_code == 1, path
    assert node.exec("test", "-S", "/tmp/outside.sock", check=False).exit_code == 0


def test_sockets_of_a_killed_node_give_the_warning(start_node: StartNode) -> None:
    """A node that was killed leaves its sockets for the second run; a stopped node leaves none."""
    node = start_node()
    node.stop(seconds=60)
    node.start()
    node.wait_until_it_answers()
    assert "dangling" not in node.logs()
    node.signal("KILL")
    node.wait_exit()
    node.start()
    node.wait_for_log("found dangling unix sockets in the prefix directory")
    node.wait_until_it_answers()


def test_logs_go_to_the_streams(start_node: StartNode) -> None:
    """Requests are on standard output, errors on standard error; the status and GUI logs remain files."""
    node = start_node()
    links = {
        name: node.exec("readlink", f"/usr/local/kong/logs/{name}").stdout.strip()
        for name in ("access.log", "admin_access.log", "error.log")
    }
    assert links == {
        "access.log": "/dev/stdout",
        "admin_access.log": "/dev/stdout",
        "error.log": "/dev/stderr",
    }
    node.request("/a-request-to-look-for")
    node.wait_for_log("/a-request-to-look-for")
    status_log = "test -f /usr/local/kong/logs/status_error.log && ! test -L /usr/local/kong/logs/status_error.log"
    assert node.exec("sh", "-c", status_log, check=False).exit_code == 0


def test_kong_replaces_the_entrypoint(start_node: StartNode) -> None:
    """Process 1 is the node itself: it receives the signals of docker stop."""
    assert "docker-entrypoint" not in start_node().exec("cat", "/proc/1/cmdline").stdout


def test_read_only_root(start_node: StartNode) -> None:
    """As in Kong's own compose file: a read-only root, the prefix and /tmp on tmpfs."""
    node = start_node(
        env={"KONG_PREFIX": "/var/run/kong"},
        options=[
            "--read-only",
            "--tmpfs=/var/run/kong",
            "--tmpfs=/tmp",
            "--security-opt=no-new-privileges",
            "--cap-drop=ALL",
        ],
    )
    assert node.request("/through").status == 200
    assert "prefix = /var/run/kong" in kong_env(node, "/var/run/kong")


def test_any_user(start_node: StartNode) -> None:
    """Another uid can serve, too, if it can write to the prefix."""
    node = start_node(
        env={"KONG_PREFIX": "/var/run/kong"}, options=["--user=12345:0", "--tmpfs=/var/run/kong", "--tmpfs=/tmp"]
    )
    assert node.exec("id", "-u").stdout.strip() == "12345"
    assert node.request("/through").status == 200
