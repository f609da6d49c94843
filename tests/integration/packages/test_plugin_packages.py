"""Packages of plugins in each command that loads plugins."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from integration.image.container import Container, base_image
from kong_pdk.cli import main
from kong_pdk.packages.plugin_packages import locate
from programs import KONG_PYTHON
from unit.packages.conftest import PLUGIN, Write, environment

Command = Callable[..., subprocess.CompletedProcess[str]]

SERVER = (sys.executable, "-m", "kong_pdk.server")


PLUGINS = {
    "for-all.py": f"import alpha\nversion = alpha.VERSION + '.0'\n{PLUGIN}",
    "own/plugin.py": f"import alpha\nversion = alpha.VERSION + '.0'\n{PLUGIN}",
    "requirements.txt": "alpha\n",
    "own/requirements.txt": "alpha<2\n",
}


@pytest.fixture
def plugins(folder: Path, write: Write) -> Path:
    """A plugin that needs alpha, and a plugin that needs another version of it."""
    for name, text in PLUGINS.items():
        write(name, text)
    return folder


@pytest.fixture
def place(plugins: Path, environ: Mapping[str, str], tmp_path: Path) -> Mapping[str, str]:
    """The environment of a container with this folder."""
    return container_environment(environ, plugins, tmp_path)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, index: Path) -> Iterator[tuple[Mapping[str, str], Container]]:
    """The same, in which a container has started and installed the packages."""
    root = tmp_path_factory.mktemp("installed")
    for name, text in PLUGINS.items():
        file = root / "plugins" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    place = container_environment(environment(root / "data", index, root / "home"), root / "plugins", root)
    container = Container(root, {**place, **base_image(root)}, ())
    container.wait_for("every plugin server answers (2)")
    container.wait_for("GET / 200")
    yield place, container
    container.kill()


@pytest.fixture
def installed_place(started: tuple[Mapping[str, str], Container]) -> Mapping[str, str]:
    return started[0]


def container_environment(environ: Mapping[str, str], plugins: Path, root: Path) -> Mapping[str, str]:
    paths = {"KONG_PYTHON_PLUGINS_DIR": str(plugins), "KONG_PYTHON_RUN_DIR": str(root / "run"), "TMPDIR": str(root)}
    return {**environ, **paths}


def run(place: Mapping[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=dict(place), capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command of ``kong-python`` that imports no plugin into its process, which is this one."""

    def run_here(place: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
        for name in os.environ.keys() - place.keys():
            monkeypatch.delenv(name)
        for name, value in place.items():
            monkeypatch.setenv(name, value)
        status = main(words)
        return subprocess.CompletedProcess(words, status, *capfd.readouterr())

    return run_here


def versions(dumped: str) -> dict[str, str]:
    return {plugin["Name"]: plugin["Version"] for plugin in json.loads(dumped)}


def test_the_start_installs_and_each_server_gets_its_packages(started: tuple[Mapping[str, str], Container]) -> None:
    place, container = started
    assert "installed 1 package for all plugins" in container.log
    assert "plugins from" in container.log
    conf = next(Path(place["KONG_PYTHON_RUN_DIR"]).glob("*/supervisord.conf")).read_text()
    own, for_all = re.findall(r"command=.*--plugin (?:own|for-all) .*", conf)[::-1]
    assert len(re.findall(r"--packages \S+/environments/\d+/own-\w+ --packages \S+/environments/\d+/all-", own)) == 1
    assert len(re.findall(r"--packages \S+/environments/\d+/all-", for_all)) == 1


def test_the_server_of_a_folder_finds_installed_packages(installed_place: Mapping[str, str]) -> None:
    done = run(installed_place, *SERVER, "-d", installed_place["KONG_PYTHON_PLUGINS_DIR"], "--dump")
    assert versions(done.stdout) == {"for-all": "2.0.0", "own": "1.0.0"}


def test_directories_can_be_given(place: Mapping[str, str], plugins: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "alpha.py").write_text("VERSION = '7.0'\n")
    done = run(place, *SERVER, "-d", str(plugins), "--dump-plugin-info", "own", "--packages", str(tmp_path / "mine"))
    assert versions(done.stdout) == {"own": "7.0.0"}


def test_plugins_of_one_server_share_packages_with_a_warning(place: Mapping[str, str], plugins: Path) -> None:
    assert locate(plugins, place, ["own"]).shared is None
    assert locate(plugins, place, ["for-all"]).shared is None
    message = locate(plugins, place).shared
    assert message and message.startswith("all plugins of this server see the packages of own; ")
    process = subprocess.Popen(
        [*SERVER, "-d", str(plugins), "-p", place["TMPDIR"]], env=dict(place), stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr and f"[warn] pluginserver: {message}\n" in process.stderr.readline()
        process.terminate()


def test_a_missing_package_has_a_hint(command: Command, place: Mapping[str, str], plugins: Path, data: Path) -> None:
    done = command(place, "plugins")
    assert done.returncode == 78
    assert f'own/plugin.py:1: module "alpha" is not installed; the packages of {plugins}' in done.stderr
    assert "run kong-python install, or start with KONG_PYTHON_INSTALL=wheels, the default" in done.stderr
    assert not data.exists()


def test_the_list_of_plugins_has_their_packages(command: Command, installed_place: Mapping[str, str]) -> None:
    done = command(installed_place, "plugins", "--json")
    assert {row["name"]: row["version"] for row in json.loads(done.stdout)} == {"for-all": "2.0.0", "own": "1.0.0"}


@pytest.mark.parametrize(("program", "installs"), [("kong", True), ("bash", False)])
def test_commands_of_kong_get_packages_too(
    program: str, installs: bool, place: Mapping[str, str], data: Path, tmp_path: Path
) -> None:
    (Path(place["KONG_PYTHON_PLUGINS_DIR"]) / "own" / "requirements.txt").unlink()
    then = {**place, **base_image(tmp_path, then="exit 5")}
    done = run(then, KONG_PYTHON, "entrypoint", program, "version")
    assert done.returncode == 5
    assert data.exists() is installs


def test_installing_can_be_switched_off(command: Command, place: Mapping[str, str], data: Path) -> None:
    done = command({**place, "KONG_PYTHON_INSTALL": "off"}, "entrypoint")
    assert done.returncode == 78
    assert "start with KONG_PYTHON_INSTALL=wheels" in done.stderr
    assert not data.exists()
