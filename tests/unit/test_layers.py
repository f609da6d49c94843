"""What may import what: the contracts of ``[tool.importlinter]`` in pdk/pyproject.toml."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PDK = Path(__file__).resolve().parents[2] / "pdk"


def check(pdk: Path) -> subprocess.CompletedProcess[str]:
    """Check the package below a folder by the contracts of its pyproject.toml."""
    linter = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [linter, pdk / "pyproject.toml", "--no-cache", "--no-logo"],
        env={**os.environ, "PYTHONPATH": str(pdk / "src")}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_every_room_imports_from_the_rooms_below_it() -> None:
    done = check(PDK)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_import_against_the_arrows_is_found(tmp_path: Path) -> None:
    shutil.copytree(PDK, tmp_path / "pdk", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", ".*"))
    package = tmp_path / "pdk/src/kong_pdk"
    for module, line in (
        ("plugin/names.py", "from kong_pdk.server.workers import worker"),
        ("wire/calls.py", "import socket"),
        ("image/report.py", "import yaml"),
    ):
        with (package / module).open("a") as file:
            file.write(f"\n{line}\n")
    (package / "unplaced.py").write_text("")
    said = check(tmp_path / "pdk").stdout
    assert "Contracts: 0 kept, 3 broken." in said
    assert "kong_pdk.plugin.names -> kong_pdk.server.workers.worker" in said
    assert "unplaced" in said
