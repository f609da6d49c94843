"""Containers of the product image: started as users start them, their logs checked, always removed."""

from __future__ import annotations

import json
import secrets
import ssl
from collections.abc import Iterable, Mapping, Sequence
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

from container import log_lines
from container.containers import DEADLINE_SECONDS, LABEL, Answer, Finished, TrackedContainer, docker
from container.log_lines import Expected, Line

REPOSITORY = Path(__file__).resolve().parents[2]
PY_HELLO = REPOSITORY / "plugins" / "py-hello.py"
TEST_PLUGINS = REPOSITORY / "tests" / "container" / "plugins"

# Paths in the image.
PLUGINS = "/opt/kong/plugins"
DECLARATIVE = "/opt/kong/kong.yml"

PACKAGES = "/var/lib/kong-python"

# Settings that scripts/image copies here, so that pip reaches an index in the container as on this machine.
HOST = REPOSITORY / "docker" / "host"
_HOST = "/opt/kong/host"

UPSTREAM = "http://upstream:9000"
DB_LESS = {"KONG_DATABASE": "off", "KONG_DECLARATIVE_CONFIG": DECLARATIVE}
BUILD_SECONDS = 1800.0

# Off: a check of the engine starts two Pythons in each running container; tests run the check when they need it.
NO_HEALTH_CHECKS = "--health-interval=24h"

Content = str | bytes | Path


def declarative(*plugins: str | Mapping[str, Any], **more: Any) -> str:
    """Give a kong.yml (JSON is YAML) with one route for all requests and plugins on it.

    :param plugins: each a name, or an entry with ``name`` and ``config``.
    :param more: other lists of entities, such as ``consumers``.
    """
    entries = [{"name": plugin} if isinstance(plugin, str) else dict(plugin) for plugin in plugins]
    service = {"name": "demo", "url": UPSTREAM, "routes": [{"name": "demo", "paths": ["/"]}]}
    return json.dumps({"_format_version": "3.0", "services": [service], "plugins": entries, **more}, indent=2)


def declarative_routes(*plugins: str) -> str:
    """Give a kong.yml with a route for each plugin, whose path is the plugin's name."""
    routes = [{"name": name, "paths": [f"/{name}"], "plugins": [{"name": name}]} for name in plugins]
    return json.dumps({"_format_version": "3.0", "services": [{"name": "demo", "url": UPSTREAM, "routes": routes}]})


def _bytes(content: Content) -> bytes:
    if isinstance(content, Path):
        return content.read_bytes()
    return content.encode() if isinstance(content, str) else content


def index_settings() -> dict[str, str]:
    """Give the variables with which pip in a container uses the files of ``HOST``, which is mounted there."""
    certificates = {"PIP_CERT": f"{_HOST}/ca-certificates.crt"} if (HOST / "ca-certificates.crt").exists() else {}
    return {"PIP_CONFIG_FILE": f"{_HOST}/pip.conf", **certificates}


class Kong(TrackedContainer):
    """A container of the product image, whose log is checked."""

    expected: tuple[Expected, ...] = ()
    _lines_checked = 0

    def check_log(self) -> None:
        """Fail on a line without the form of all lines, and on unexpected warnings and errors.

        Each line is checked once: in a container that tests share, each test checks its own lines.
        """
        lines = log_lines.parse(self.logs())
        new, self._lines_checked = lines[self._lines_checked :], len(lines)
        found = log_lines.trouble(new, self.expected)
        assert not found, "unexpected in the log:\n" + "\n".join(map(str, found)) + f"\n\nall of it:\n{self.logs()}"

    def expect(self, *lines: Expected) -> None:
        """Expect these lines from now on."""
        self.expected += lines

    def lines(self, program: str, *levels: str) -> list[Line]:
        """Give the log's lines of one program, of these levels or of all."""
        found = log_lines.parse(self.logs())
        return [line for line in found if line.program == program and (not levels or line.level in levels)]

    def wait_until_check_passes(self, seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until the image's health check passes. It is run by ``docker exec``, as the engine mostly does not."""
        check = self.inspect()["Config"]["Healthcheck"]["Test"][1:]
        self.wait_for(lambda: self.exec(*check, check=False).exit_code == 0, "the health check passes", seconds)

    def wait_until_serving(
        self, path: str = "/", status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Wait until a request is answered with this status."""

        def attempt() -> Answer | None:
            answer = self.request(path, headers=headers)
            return answer if answer.status == status else None

        return self.wait_for(attempt, f"status {status} for {path}")  # type: ignore[return-value]

    def https(self, path: str = "/", port: int = 8443) -> Answer:
        """Make one HTTPS request; Kong's own certificate cannot be verified."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection(*self.address(port), timeout=30, context=context)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def pids_of_server(self, plugin: str) -> list[int]:
        """The processes of a plugin's server, by their numbers in the container: its master, then its workers."""
        script = (
            "import pathlib, sys\n"
            "for file in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
            "    try: words = file.read_bytes().replace(b'\\0', b' ').split()\n"  # a forked server has spaces
            "    except OSError: continue\n"
            "    if b'--plugin' in words and sys.argv[1].encode() in words: print(file.parent.name)\n"
        )
        # This script has the plugin's name in its command line, too, but not after --plugin.
        return sorted(int(pid) for pid in self.exec("python3", "-c", script, plugin).stdout.split())

    def kill(self, name: str, *pids: int) -> None:
        """Send a signal to processes in the container, as its own user."""
        self.exec("sh", "-c", f"kill -{name} {' '.join(map(str, pids))}")


class Launcher:
    """Starts containers of one image with the options that its tests share."""

    def __init__(self, image: str, network: str, folder: Path) -> None:
        """:param network: the network of the upstream; :param folder: for files to mount."""
        self.image = image
        self._network = network
        self._folder = folder
        self._started: list[Kong] = []
        self._images: list[str] = []
        self._volumes: list[str] = []

    def start(  # noqa: PLR0913 - the options of docker run, by name
        self,
        *command: str,
        plugins: Path | None = None,
        config: str | None = None,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        ports: Sequence[int] = (8000,),
        expected: Iterable[Expected] = (),
        image: str | None = None,
        index: bool = False,
        network: str | None = None,
    ) -> Kong:
        """Start Kong without a database.

        :param plugins: a folder to mount read-only as the plugin folder.
        :param config: the content of its kong.yml.
        :param expected: warnings and errors that its log may have.
        :param index: let pip in it reach a package index as this machine does.
        :param network: another one than that of the upstream.
        """
        mounts = [] if plugins is None else [f"--volume={plugins}:{PLUGINS}:ro"]
        if config is not None:
            mounts.append(f"--volume={self.file(config)}:{DECLARATIVE}:ro")
        if index:
            mounts.append(f"--volume={HOST}:{_HOST}:ro")
        container = Kong.run(
            image or self.image,
            *command,
            env={**DB_LESS, **(index_settings() if index else {}), **(env or {})},
            options=[f"--network={network or self._network}", NO_HEALTH_CHECKS, *mounts, *options],
            ports=ports,
        )
        assert isinstance(container, Kong)
        container.expected = tuple(expected)
        self._started.append(container)
        return container

    def run(
        self,
        *command: str,
        plugins: Path | None = None,
        config: str | None = None,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> Finished:
        """Run a container to its end. The test checks its output itself."""
        container = self.start(*command, plugins=plugins, config=config, env=env, options=options, ports=())
        exit_code = container.wait_exit()
        streams = docker("logs", container.id)
        self._remove(container)
        return Finished(exit_code, streams.stdout, streams.stderr)

    def file(self, content: str, name: str | None = None, mode: int = 0o644) -> Path:
        """A file for mounting that every user can read."""
        path = self._folder / (name or f"file-{secrets.token_hex(6)}")
        path.write_text(content, encoding="utf-8")
        path.chmod(mode)
        return path

    def folder(self, files: Mapping[str, Content]) -> Path:
        """A folder for mounting that every user can read; a Path is copied."""
        top = self._folder / f"folder-{secrets.token_hex(6)}"
        top.mkdir()
        for name, content in files.items():
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_bytes(content))
            path.chmod(0o644)
        for path in (top, *(path for path in top.rglob("*") if path.is_dir())):
            path.chmod(0o755)
        return top

    def derive(self, dockerfile: str, files: Mapping[str, Content], **arguments: str) -> str:
        """Build an image from a Dockerfile, the files that it copies and build arguments; its id."""
        context = self.folder({"Dockerfile": dockerfile, **files})
        build_args = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        built = docker("build", "--quiet", "--label", LABEL, *build_args, str(context), timeout=BUILD_SECONDS)
        self._images.append(built.stdout.split()[-1])
        return self._images[-1]

    def volume(self) -> str:
        """Make an empty named volume that is removed at the end."""
        name = docker("volume", "create", "--label", LABEL).stdout.strip()
        self._volumes.append(name)
        return name

    def check_logs(self) -> None:
        """Fail on unexpected warnings and errors in the log of a container that is still there."""
        for container in self._started:
            container.check_log()

    def close(self) -> None:
        """Check the logs, and remove everything also if a check fails."""
        try:
            self.check_logs()
        finally:
            for container in list(self._started):
                self._remove(container)
            for image in self._images:
                docker("image", "rm", "--force", image, check=False)
            for volume in self._volumes:
                docker("volume", "rm", "--force", volume, check=False)

    def forget(self, container: Kong) -> None:
        """Remove a container now; the test has checked its log itself."""
        self._remove(container)

    def _remove(self, container: Kong) -> None:
        container.remove()
        self._started.remove(container)
