"""Run directories, plugin folders and environments for the tests of the image."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from kong_pdk.image.run_directory import RunDirectory, prepare
from local_servers import ConnectionServer

Answer = Callable[[socket.socket, bytes], None]

GOOD_PLUGIN = """
version = "1.2.3"
priority = 42


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        pass
"""

BROKEN_PLUGIN = "class Plugin:\n    def access(self, kong)\n        pass\n"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Make a run directory."""
    places = {"KONG_PYTHON_RUN_DIR": str(tmp_path / "run"), "TMPDIR": str(tmp_path)}
    return prepare({**places, "KONG_NGINX_MAIN_USER": "root"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a plugin folder with one plugin, ``good``."""
    made = tmp_path / "plugins"
    made.mkdir()
    (made / "good.py").write_text(GOOD_PLUGIN)
    return made


@pytest.fixture
def no_plugins(folder: Path) -> None:
    """Remove the plugin: a container starts faster without plugin servers."""
    (folder / "good.py").unlink()


@pytest.fixture
def add_broken(folder: Path) -> None:
    """Add a plugin with a syntax error."""
    (folder / "bad.py").write_text(BROKEN_PLUGIN)


@pytest.fixture
def environ(tmp_path: Path, folder: Path) -> Mapping[str, str]:
    """Give the environment of a container with the plugin folder, and no setting of the tests' own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KONG_")}
    places = {"KONG_PYTHON_RUN_DIR": str(tmp_path / "run"), "KONG_PYTHON_PLUGINS_DIR": str(folder)}
    return {**kept, **places, "TMPDIR": str(tmp_path)}


@pytest.fixture
def serve() -> Iterator[Callable[[Path, Answer], None]]:
    """Listen on a Unix socket and answer the first bytes of each connection."""
    servers: list[ConnectionServer] = []

    def listen(path: Path, answer: Answer) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen()
        servers.append(ConnectionServer(listener, lambda connection: answer(connection, connection.recv(65536))))

    yield listen
    for server in servers:
        server.close()
