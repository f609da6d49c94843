"""The image's configuration, and commands other than Kong."""

from __future__ import annotations

import json
import re

import pytest
from container.base.nodes import StartNode
from container.containers import docker, run_once


@pytest.fixture(scope="module")
def configuration(kong_image: str) -> dict[str, object]:
    found = json.loads(docker("image", "inspect", kong_image).stdout)[0]["Config"]
    assert isinstance(found, dict)
    return found


def test_entrypoint_and_command(configuration: dict[str, object]) -> None:
    """A derived image can rely on the entrypoint's path and on the default command."""
    assert configuration["Entrypoint"] == ["/docker-entrypoint.sh"]
    assert configuration["Cmd"] == ["kong", "docker-start"]


def test_docker_stop_is_graceful(configuration: dict[str, object]) -> None:
    """docker stop sends nginx's graceful signal."""
    assert configuration["StopSignal"] == "SIGQUIT"


def test_health_check_is_kong_health(configuration: dict[str, object]) -> None:
    """The engine runs `kong health` every 10 s; ten failures make the container unhealthy."""
    check = configuration["Healthcheck"]
    assert isinstance(check, dict)
    assert check["Test"] == ["CMD-SHELL", "kong health"]
    assert (check["Interval"], check["Timeout"], check["Retries"]) == (10 * 10**9, 10 * 10**9, 10)


def test_ports(configuration: dict[str, object]) -> None:
    """The proxy's and the Admin API's ports are declared."""
    exposed = configuration["ExposedPorts"]
    assert isinstance(exposed, dict)
    assert {"8000/tcp", "8443/tcp", "8001/tcp", "8444/tcp"} <= set(exposed)


def test_user_is_unprivileged(configuration: dict[str, object], start_node: StartNode) -> None:
    """Nothing runs as root."""
    assert configuration["User"] == "kong"
    node = start_node()
    assert node.exec("id", "-u").stdout.strip() != "0"
    assert "Uid:\t0" not in node.exec("cat", "/proc/1/status").stdout


def test_another_command_is_run_unchanged(kong_image: str) -> None:
    """A command other than kong gets its arguments unchanged, and its exit code is the container's."""
    done = run_once(kong_image, "sh", "-c", 'echo "$1"; exit 7', "sh", "two  words")
    assert (done.exit_code, done.stdout) == (7, "two  words\n")


def test_every_command_has_nginx_in_the_foreground(kong_image: str) -> None:
    """KONG_NGINX_DAEMON is off for every command, and the user's settings are kept."""
    assert run_once(kong_image, "printenv", "KONG_NGINX_DAEMON").stdout == "off\n"
    kept = run_once(kong_image, "printenv", "KONG_NGINX_DAEMON", env={"KONG_NGINX_DAEMON": "on"})
    assert kept.stdout == "on\n"


def test_version_begins_with_the_number(kong_image: str) -> None:
    """Scripts read Kong's version from the first word of `kong version`."""
    done = run_once(kong_image, "kong", "version")
    assert done.exit_code == 0
    assert re.match(r"(Kong Enterprise )?3\.\d+\.\d+", done.stdout)


def test_interface_file_is_there_wherever_the_prefix_is(kong_image: str) -> None:
    """An image can extend ProtoBuf:1's interface file, which is in Kong's installation."""
    done = run_once(
        kong_image,
        "cat",
        "/usr/local/kong/include/kong/pluginsocket.proto",
        env={"KONG_PREFIX": "/tmp/elsewhere"},
    )
    assert done.exit_code == 0
    assert "rpc Client_GetIp" in done.stdout
    assert done.stdout.rstrip().endswith("}")


def test_the_stand_in_says_that_it_is_not_kong(kong_image: str, stand_in: bool, start_node: StartNode) -> None:
    """The version and the log of the embedded gateway say that it is not Kong."""
    if not stand_in:
        pytest.skip("this is not the stand-in")
    assert "not Kong" in run_once(kong_image, "kong", "version").stdout
    assert "not Kong" in start_node().logs()


def test_it_has_no_python(kong_image: str) -> None:
    """Kong's image has no Python: an image that is based on it installs its own."""
    found = run_once(kong_image, "sh", "-c", "command -v python3 python", options=["--no-healthcheck"])

    assert found.stdout == ""
