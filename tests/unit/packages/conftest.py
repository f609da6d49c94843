"""A folder of plugins, a data directory, and a folder of wheels as the index: no test here uses a network."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import pytest
import wheels
from kong_pdk.packages import requirements
from kong_pdk.packages.installation import install
from kong_pdk.packages.pip import TARGET, Outcome
from kong_pdk.packages.plugin_packages import Packages, locate
from wheels import wheel

PLUGIN = """
class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        pass
"""
NOT_FOUND = (
    "ERROR: Could not find a version that satisfies the requirement {0} (from versions: none)\n"
    "ERROR: No matching distribution found for {0}\n"
)


class Write(Protocol):
    """Write a file below the folder of plugins."""

    def __call__(self, name: str, text: str = PLUGIN) -> Path: ...


class Install(Protocol):
    """Install the packages of the folder of plugins, with additional variables in the environment."""

    def __call__(self, **variables: str) -> Packages: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "plugins"
    made.mkdir()
    return made


@pytest.fixture
def write(folder: Path) -> Write:
    def write_file(name: str, text: str = PLUGIN) -> Path:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return write_file


@pytest.fixture
def one(write: Write) -> None:
    """A plugin that needs alpha."""
    write("one.py", f"import alpha\n{PLUGIN}")
    write("requirements.txt", "alpha==1.0\n")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The path of the data directory, which does not exist yet."""
    return tmp_path / "data"


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of wheels that pip finds."""
    return wheels.write(
        tmp_path_factory.mktemp("index"),
        wheel("alpha", "1.0"),
        wheel("alpha", "2.0"),
        wheel("beta", "1.0", needs=("alpha<2",)),
        wheel("gamma", "1.0", needs=("alpha>=2",)),
        wheel("old-msgpack", "1.0", needs=("msgpack<1",)),
        wheel("msgpack", "0.6"),
    )


def environment(data: Path, index: Path, home: Path) -> dict[str, str]:
    """Give an environment in which pip only finds the wheels of a folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KONG_", "PIP_"))}
    paths = {"KONG_PYTHON_DATA_DIR": str(data), "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}
    # Without a PIP_CERT, the tests would run pip to read its setting, which takes as long as an install.
    return {**kept, **paths, "PIP_NO_INDEX": "1", "PIP_CERT": os.devnull, "HOME": str(home)}


@pytest.fixture
def environ(tmp_path: Path, data: Path, index: Path) -> Mapping[str, str]:
    return environment(data, index, tmp_path / "home")


@pytest.fixture
def installed(folder: Path, environ: Mapping[str, str]) -> Install:
    def run(**variables: str) -> Packages:
        given = {**environ, **variables}
        return install(locate(folder, given), given)

    return run


@pytest.fixture
def located(folder: Path, environ: Mapping[str, str]) -> Callable[[], Packages]:
    return lambda: locate(folder, environ)


@pytest.fixture
def fake_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpack the last wheel that matches a line's name, without dependencies: a run of pip takes a second."""

    def unpack(file: Path, work: Path, environ: Mapping[str, str], seconds: float, building: bool) -> Outcome:
        read = requirements.read(file, None)
        assert read is not None
        (work / TARGET).mkdir()
        for line in read.lines:
            if name := requirements.name_of(line.text):
                version = line.text.partition("==")[2].strip()
                found = sorted(Path(environ["PIP_FIND_LINKS"]).glob(f"{name}-{version}*.whl"))
                if not found:
                    return Outcome(1, NOT_FOUND.format(line.text), "")
                with zipfile.ZipFile(found[-1]) as archive:
                    archive.extractall(work / TARGET)
        return Outcome(0, "", "")

    monkeypatch.setattr("kong_pdk.packages.pip.install", unpack)


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail on a run of pip."""

    def run(*arguments: object) -> object:
        raise AssertionError("pip was run")

    monkeypatch.setattr("kong_pdk.packages.pip.install", run)
