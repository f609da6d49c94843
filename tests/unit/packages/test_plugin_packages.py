"""Packages of plugins in every command that loads plugins."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from kong_pdk.packages.plugin_packages import locate
from unit.image.container import Container, base_image
from unit.packages.conftest import PLUGIN, Write

MAIN = "import sys; from kong_pdk.cli import main; sys.exit(main())"
SERVER = (sys.executable, "-m", "kong_pdk.server")


@pytest.fixture
def plugins(folder: Path, write: Write) -> Path:
    """Make a folder with a plugin that needs alpha, and one that needs another version of it."""
    write("for-all.py", f"import alpha\nversion = alpha.VERSION + '.0'\n{PLUGIN}")
    write("own/plugin.py", f"import alpha\nversion = alpha.VERSION + '.0'\n{PLUGIN}")
    write("requirements.txt", "alpha\n")
    write("own/requirements.txt", "alpha<2\n")
    return folder


@pytest.fixture
def place(plugins: Path, environ: Mapping[str, str], tmp_path: Path) -> Mapping[str, str]:
    """Give the environment of a container with that folder."""
    places = {"KONG_PYTHON_PLUGINS_DIR": str(plugins), "KONG_PYTHON_RUN_DIR": str(tmp_path / "run")}
    return {**environ, **places, "TMPDIR": str(tmp_path)}


def run(place: Mapping[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=dict(place), capture_output=True, text=True, timeout=120, check=False)


def versions(dumped: str) -> dict[str, str]:
    return {plugin["Name"]: plugin["Version"] for plugin in json.loads(dumped)}


@pytest.fixture
def start(tmp_path: Path, place: Mapping[str, str]) -> Iterator[Container]:
    """Start the entrypoint; what it starts is ended after the test."""
    container = Container(tmp_path, {**place, **base_image(tmp_path)}, ())
    yield container
    container.kill()


def test_the_start_installs_and_each_server_gets_its_own(start: Container, tmp_path: Path) -> None:
    start.wait_for("GET / 200")
    assert "installed 1 package for all plugins" in start.log
    assert "plugins from" in start.log
    conf = next((tmp_path / "run").glob("*/supervisord.conf")).read_text()
    own, for_all = re.findall(r"command=.*--plugin (?:own|for-all) .*", conf)[::-1]
    assert len(re.findall(r"--packages \S+/environments/\d+/own-\w+ --packages \S+/environments/\d+/all-", own)) == 1
    assert len(re.findall(r"--packages \S+/environments/\d+/all-", for_all)) == 1
    start.wait_for("every plugin server answers (2)")


def test_the_folder_server_finds_what_is_installed(place: Mapping[str, str], plugins: Path) -> None:
    assert run(place, sys.executable, "-c", MAIN, "install").returncode == 0
    done = run(place, *SERVER, "-d", str(plugins), "--dump")
    assert versions(done.stdout) == {"for-all": "2.0.0", "own": "1.0.0"}


def test_directories_can_be_named(place: Mapping[str, str], plugins: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "alpha.py").write_text("VERSION = '7.0'\n")
    done = run(place, *SERVER, "-d", str(plugins), "--dump-plugin-info", "own", "--packages", str(tmp_path / "mine"))
    assert versions(done.stdout) == {"own": "7.0.0"}


def test_plugins_of_one_server_share_and_it_says_so(place: Mapping[str, str], plugins: Path) -> None:
    assert locate(plugins, place, ["own"]).shared is None
    assert locate(plugins, place, ["for-all"]).shared is None
    sentence = locate(plugins, place).shared
    assert sentence and sentence.startswith("all plugins of this server see the packages of own; ")
    process = subprocess.Popen(
        [*SERVER, "-d", str(plugins), "-p", place["TMPDIR"]], env=dict(place), stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr and f"[warn] pluginserver: {sentence}\n" in process.stderr.readline()
        process.terminate()


def test_what_is_not_installed_is_said_with_the_hint(place: Mapping[str, str], plugins: Path, data: Path) -> None:
    done = run(place, sys.executable, "-c", MAIN, "plugins")
    assert done.returncode == 78
    assert f'own/plugin.py:1: module "alpha" is not installed; what {plugins}' in done.stderr
    assert "run kong-python install, or start with KONG_PYTHON_INSTALL=wheels, the default" in done.stderr
    assert not data.exists()


def test_people_see_plugins_with_their_packages(place: Mapping[str, str]) -> None:
    assert run(place, sys.executable, "-c", MAIN, "install").returncode == 0
    done = run(place, sys.executable, "-c", MAIN, "plugins", "--json")
    assert {row["name"]: row["version"] for row in json.loads(done.stdout)} == {"for-all": "2.0.0", "own": "1.0.0"}


@pytest.mark.parametrize(("command", "installs"), [("kong", True), ("bash", False)])
def test_commands_of_kong_get_packages_too(
    command: str, installs: bool, place: Mapping[str, str], data: Path, tmp_path: Path
) -> None:
    then = {**place, **base_image(tmp_path, then="exit 5")}
    done = run(then, sys.executable, "-c", MAIN, "entrypoint", command, "version")
    assert done.returncode == 5
    assert data.exists() is installs


def test_installing_may_be_forbidden(place: Mapping[str, str], data: Path, tmp_path: Path) -> None:
    then = {**place, **base_image(tmp_path), "KONG_PYTHON_INSTALL": "off"}
    done = run(then, sys.executable, "-c", MAIN, "entrypoint")
    assert done.returncode == 78
    assert "start with KONG_PYTHON_INSTALL=wheels" in done.stderr
    assert not data.exists()


def test_a_folder_without_requirements_has_nothing_to_install(
    environ: Mapping[str, str], folder: Path, write: Write
) -> None:
    write("one.py")
    done = run(environ, sys.executable, "-c", MAIN, "install", str(folder))
    assert (done.returncode, done.stderr.rstrip().endswith(f"{folder}: nothing to install")) == (0, True)


def test_a_folder_that_is_not_there(environ: Mapping[str, str], folder: Path) -> None:
    done = run(environ, sys.executable, "-c", MAIN, "install", str(folder / "none"))
    assert done.returncode == 78
    assert "there is no such folder" in done.stderr


def test_an_install_that_fails_ends_with_78(environ: Mapping[str, str], folder: Path, write: Write) -> None:
    write("one.py")
    write("requirements.txt", "nowhere\n")
    done = run(environ, sys.executable, "-c", MAIN, "install", str(folder))
    assert done.returncode == 78
    assert f"[error] kong-python: {folder}/requirements.txt:1: the packages of all plugins cannot be" in done.stderr
