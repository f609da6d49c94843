"""A folder of plugins, a data directory, and an index of wheels made on the spot: no test here has a network."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import wheels
from wheels import wheel

Write = Callable[[str, str], Path]

PLUGIN = """
class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make an empty folder of plugins."""
    made = tmp_path / "plugins"
    made.mkdir()
    return made


@pytest.fixture
def write(folder: Path) -> Write:
    """Write a file below the folder of plugins."""

    def write_file(name: str, text: str = PLUGIN) -> Path:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return write_file


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Name a data directory, which is not there yet."""
    return tmp_path / "data"


@pytest.fixture
def environ(tmp_path: Path, data: Path) -> Mapping[str, str]:
    """Give an environment in which pip knows a few wheels and nothing else."""
    index = wheels.write(
        tmp_path / "index",
        wheel("alpha", "1.0"),
        wheel("alpha", "2.0"),
        wheel("beta", "1.0", needs=("alpha<2",)),
        wheel("gamma", "1.0", needs=("alpha>=2",)),
        wheel("old-msgpack", "1.0", needs=("msgpack<1",)),
        wheel("msgpack", "0.6"),
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KONG_", "PIP_"))}
    places = {"KONG_PYTHON_DATA_DIR": str(data), "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}
    return {**kept, **places, "PIP_NO_INDEX": "1", "HOME": str(tmp_path / "home")}
