"""The ``kong`` command in the image: what it reads, what it refuses, and the programs that it never runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from container.base.nodes import CONFIGURATION, StartNode, kong_env, plugin_server
from container.containers import run_once

Folder = Callable[..., Path]


def test_reload_reads_kong_env_under_the_environment(start_node: StartNode) -> None:
    """`docker exec kong reload` keeps a setting that an entrypoint added, unless docker run set that variable."""
    node = start_node(
        "bash",
        "-c",
        "export KONG_LOG_LEVEL=info KONG_REAL_IP_HEADER=X-Forwarded-For; exec /docker-entrypoint.sh kong docker-start",
        env={"KONG_LOG_LEVEL": "warn"},
    )
    assert {"log_level = info", "real_ip_header = X-Forwarded-For"} <= set(kong_env(node))
    node.exec("kong", "reload")
    assert {"log_level = warn", "real_ip_header = X-Forwarded-For"} <= set(kong_env(node))


def test_health_checks_only_the_process(start_node: StartNode) -> None:
    """`kong health` only says that nginx runs; /status/ready says whether it can serve."""
    node = start_node(env={"KONG_DECLARATIVE_CONFIG_STRING": ""})
    healthy = node.exec("kong", "health")
    assert "running" in healthy.stdout
    assert "Kong is healthy at /usr/local/kong" in healthy.stdout
    assert node.request("/status/ready", port=8100).status == 503


def test_ready_with_a_configuration(start_node: StartNode) -> None:
    """A node with a configuration is ready, and the engine reports it as healthy."""
    node = start_node()
    node.wait_for(lambda: node.request("/status/ready", port=8100).status == 200, "ready")
    node.wait_until_healthy()


def test_health_of_a_prefix_without_a_node(kong_image: str, environment: dict[str, str]) -> None:
    """Without a running node, `kong health` fails and names the prefix."""
    done = run_once(kong_image, "bash", "-c", "kong prepare && kong health", env=environment)
    assert done.exit_code == 1
    assert "Kong is not running at /usr/local/kong" in done.output


@pytest.mark.parametrize("command", ["prepare", "migrations up", "health", "reload", "docker-start"])
def test_a_server_without_a_query_command_fails_every_command(
    kong_image: str, environment: dict[str, str], command: str
) -> None:
    """A name in KONG_PLUGINSERVER_NAMES without a query command is an error in every command that reads it."""
    script = f"KONG_PLUGINSERVER_NAMES= kong prepare && /docker-entrypoint.sh kong {command}"
    done = run_once(kong_image, "bash", "-c", script, env={**environment, "KONG_PLUGINSERVER_NAMES": "nowhere"})
    assert done.exit_code != 0
    assert "nowhere" in done.output


def test_no_command_runs_a_query_command(kong_image: str, environment: dict[str, str]) -> None:
    """Only nginx runs query commands; prepare, check, migrations and health do not."""
    script = (
        "echo 'log_level = notice' > /tmp/kong.conf; "
        "kong prepare; kong check /tmp/kong.conf; kong migrations up; kong health; "
        "test ! -e /tmp/queried && echo untouched"
    )
    env = {
        **environment,
        **plugin_server("aa"),
        "KONG_PLUGINSERVER_AA_QUERY_CMD": "touch /tmp/queried",
    }
    assert "untouched" in run_once(kong_image, "bash", "-c", script, env=env).stdout


def test_config_parse_works_without_external_plugins(kong_image: str, folder: Folder) -> None:
    """A declarative file is checked by `kong config parse`; a wrong one is refused."""
    files = folder({"good.yml": json.dumps(CONFIGURATION), "bad.yml": "_format_version: '3.0'\nserrvices: []\n"})
    options = ["--volume", f"{files}:/files:ro"]
    env = {"KONG_DATABASE": "off"}
    good = run_once(kong_image, "kong", "config", "parse", "/files/good.yml", env=env, options=options)
    assert (good.exit_code, good.stdout.strip()) == (0, "parse successful"), good.output
    bad = run_once(kong_image, "kong", "config", "parse", "/files/bad.yml", env=env, options=options)
    assert bad.exit_code == 1
    assert "serrvices" in bad.output


def test_config_parse_fails_with_an_external_plugin(kong_image: str, folder: Folder) -> None:
    """In 3.9 the command does not work with an external plugin enabled; our own `kong-python check` does."""
    files = folder({"good.yml": json.dumps(CONFIGURATION)})
    done = run_once(
        kong_image,
        "kong",
        "config",
        "parse",
        "/files/good.yml",
        env={"KONG_DATABASE": "off", **plugin_server("aa")},
        options=["--volume", f"{files}:/files:ro"],
    )
    assert done.exit_code == 1


def test_unknown_command(kong_image: str) -> None:
    """A command that Kong does not have is refused with a list of Kong's commands."""
    done = run_once(kong_image, "kong", "begin")
    assert done.exit_code == 1
    assert "No such command: begin" in done.output
    assert "migrations" in done.output
