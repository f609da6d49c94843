"""The order of imports in a process with packages of plugins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path
from kong_pdk.packages.activation import activate
activate([Path(each) for each in sys.argv[2:]])
exec(sys.argv[1])
"""


def after(script: str, *directories: Path) -> list[str]:
    """Activate directories in a new process, and give the lines that a script prints there."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, script, *map(str, directories)], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def directory(place: Path, **modules: str) -> Path:
    place.mkdir()
    for name, text in modules.items():
        (place / f"{name}.py").write_text(text)
    return place


def test_the_first_directory_wins_and_the_pdk_s_is_the_last(tmp_path: Path) -> None:
    own = directory(tmp_path / "own", one="X = 'own'", msgpack="X = 'own'")
    for_all = directory(tmp_path / "all", one="X = 'all'", two="X = 'all'")
    script = "import one, two, msgpack, yaml; print(one.X, two.X, msgpack.X, len(yaml.__name__))"
    assert after(script, own, for_all) == ["own all own 4"]


def test_the_standard_library_cannot_be_replaced(tmp_path: Path) -> None:
    own = directory(tmp_path / "own", dataclasses="raise RuntimeError", asyncio="raise RuntimeError")
    assert after("import asyncio, dataclasses; print(dataclasses.fields.__name__)", own) == ["fields"]


def test_imported_modules_and_the_pdk_stay(tmp_path: Path) -> None:
    """kong-pdk, which many requirements.txt files have, also contains a package kong_pdk."""
    own = directory(tmp_path / "own")
    (own / "kong_pdk" / "pdk" / "kong").mkdir(parents=True)
    for folder in ("kong_pdk", "kong_pdk/pdk", "kong_pdk/pdk/kong"):
        (own / folder / "__init__.py").write_text("raise RuntimeError('the other one')\n")
    assert after("import kong_pdk.pdk.kong as kong; print(kong.kong.__name__)", own) == ["kong"]


def test_pth_files_are_read(tmp_path: Path) -> None:
    own = directory(tmp_path / "own")
    directory(own / "inner", one="X = 'inner'")
    (own / "some.pth").write_text("inner\nimport sys; sys.seen = 'yes'\n")
    script = "import sys, one; print(one.X, sys.seen, sys.path.index(sys.argv[2]) < len(sys.path) - 1)"
    assert after(script, own) == ["inner yes True"]


def test_metadata_is_found(tmp_path: Path) -> None:
    own = directory(tmp_path / "own")
    (own / "alpha-1.0.dist-info").mkdir()
    (own / "alpha-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n")
    assert after("from importlib.metadata import version; print(version('alpha'))", own) == ["1.0"]


def test_a_directory_is_activated_once(tmp_path: Path) -> None:
    own = directory(tmp_path / "own")
    assert after("activate([Path(sys.argv[2])]); print(sys.path.count(sys.argv[2]))", own) == ["1"]


def test_a_missing_directory_is_ignored(tmp_path: Path) -> None:
    assert after("print('on')", tmp_path / "gone") == ["on"]
