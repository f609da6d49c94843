"""compose.yaml runs the image with ./plugins mounted, with the Docker Compose of this machine."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from container.containers import docker
from container.product import DECLARATIVE, PLUGINS, REPOSITORY, TEST_PLUGINS, Kong, declarative, index_settings

# Without this setting, Docker Compose would build the image again.
UP = ("up", "--detach", "--no-build")
SECONDS = 240.0
# The first start installs the packages of all example plugins.
INSTALL_SECONDS = 300.0


class Project:
    """The project of compose.yaml under its own name and with its own ports."""

    def __init__(self, command: list[str], image: str, *overrides: Path) -> None:
        """:param overrides: files that change compose.yaml."""
        self.name = f"kong-python-test-{secrets.token_hex(6)}"
        self.port, self.tls_port = free_ports(2)
        files = [f"--file={file}" for file in (REPOSITORY / "compose.yaml", *overrides)]
        self._command = [*command, "--project-name", self.name, *files]
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("KONG_", "COMPOSE_"))},
            "KONG_PYTHON_IMAGE": image,
            "KONG_PROXY_PORT": str(self.port),
            "KONG_PROXY_SSL_PORT": str(self.tls_port),
            # As `make up` does.
            "KONG_HOST_CERTIFICATES": index_settings().get("PIP_CERT", ""),
        }

    def run(self, *arguments: str) -> str:
        """Run a command of Docker Compose; return its standard output."""
        done = subprocess.run(
            [*self._command, *arguments],
            env=self._env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def container(self, service: str) -> Kong:
        """The container of a service."""
        return Kong(self.run("ps", "--quiet", service).strip())


def free_ports(count: int) -> list[int]:
    """Find free ports of 127.0.0.1."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def compose_command() -> list[str] | None:
    """Docker Compose v2, or 1.29, or None."""
    if docker("compose", "version", check=False).exit_code == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


@contextmanager
def up(image: str, *overrides: Path) -> Iterator[Project]:
    """Start a project that is removed at the end of the block."""
    command = compose_command()
    if command is None:
        pytest.skip("there is no Docker Compose")
    made = Project(command, image, *overrides)
    try:
        made.run(*UP)
        yield made
    finally:
        made.run("down", "--volumes", "--remove-orphans", "--timeout", "10")


@pytest.fixture(scope="module")
def project(image: str) -> Iterator[Project]:
    with up(image) as made:
        yield made


@pytest.fixture(scope="module")
def kong(project: Project) -> Kong:
    container = project.container("kong")
    container.wait_until_check_passes(INSTALL_SECONDS)
    return container


@pytest.fixture(autouse=True)
def _no_trouble_in_the_log(kong: Kong) -> Iterator[None]:
    yield
    kong.check_log()


def test_py_hello_answers(kong: Kong, project: Project) -> None:
    """After `up`, the example plugin of ./plugins takes part in a request to 127.0.0.1."""
    answer = kong.request()

    assert kong.address(8000) == ("127.0.0.1", project.port)
    assert answer.status == 200
    assert answer.headers["x-hello-from-python"].startswith("Python says ")


def test_tls(kong: Kong, project: Project) -> None:
    """HTTPS is on the second port, only on 127.0.0.1."""
    assert kong.address(8443) == ("127.0.0.1", project.tls_port)
    assert kong.https().status == 200


def test_the_upstream_shows_the_request(kong: Kong, project: Project) -> None:
    """The service behind Kong, of the same image, shows the request that it receives."""
    assert kong.request("/some/path").json()["path"] == "/some/path"
    assert project.container("upstream").health == "healthy"


def test_entries_of_the_access_log_arrive(kong: Kong, project: Project) -> None:
    """The service behind Kong stands for a collector: it logs the entries of py-access-log."""
    kong.request("/seen?token=secret")

    project.container("upstream").wait_for_log('"uri":"/seen?token=REDACTED"')


def test_it_is_hardened(kong: Kong, project: Project) -> None:
    """Both services have a read-only root, no capabilities, no-new-privileges and a restart policy."""
    for container in (kong, project.container("upstream")):
        host = container.inspect()["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert host["RestartPolicy"]["Name"] == "on-failure"


def test_the_plugins_are_mounted_read_only(kong: Kong) -> None:
    """./plugins is mounted where the image expects it, and the container cannot write to it."""
    mounts = {mount["Destination"]: mount for mount in kong.inspect()["Mounts"]}

    assert mounts["/opt/kong/plugins"]["Source"] == str(REPOSITORY / "plugins")
    assert not mounts["/opt/kong/plugins"]["RW"]


def test_stop_and_up_again(kong: Kong, project: Project) -> None:
    """`stop` ends Kong in good order, and `up` starts it again."""
    project.run("stop")
    assert kong.inspect()["State"]["ExitCode"] == 0
    project.run(*UP)

    again = project.container("kong")
    again.wait_until_check_passes()
    assert again.request().status == 200


def test_down_lets_an_open_request_finish(image: str, folder: Callable[..., Path]) -> None:
    """`down` while a Python handler processes a request: the request gets its answer."""
    mounted = folder({"plugins/waits.py": (TEST_PLUGINS / "waits.py").read_text(), "kong.yml": declarative("waits")})
    (mounted / "plugins").chmod(0o755)
    volumes = [f"{mounted}/plugins:{PLUGINS}:ro", f"{mounted}/kong.yml:{DECLARATIVE}:ro"]
    override = mounted / "override.yaml"
    override.write_text(json.dumps({"services": {"kong": {"volumes": volumes}}}), encoding="utf-8")
    with up(image, override) as project, ThreadPoolExecutor(2) as threads:
        container = project.container("kong")
        container.wait_until_serving()
        request = threads.submit(container.request, "/wait")
        container.wait_for_log("waits: the request is here")
        down = threads.submit(project.run, "down")
        container.wait_for_log("signal 3 (SIGQUIT) received")
        assert not request.done()
        container.exec("touch", "/tmp/go")
        answer = request.result()
        down.result()

    assert (answer.status, answer.body) == (200, b"waited to the end")
