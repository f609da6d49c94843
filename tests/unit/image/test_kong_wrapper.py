"""The wrapper `kong`, with which `docker exec ... kong reload` keeps the plugins."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from kong_pdk.settings import RUN_DIR

WRAPPER = Path(__file__).parents[3] / "docker" / "kong"
UID = str(os.getuid())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Lay out the wrapper, the real command, and a run directory as the entrypoint leaves it."""
    for name in ("wrapper", "real", f"run/{UID}"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "wrapper/kong").write_bytes(WRAPPER.read_bytes())
    (tmp_path / "real/kong").write_text('#!/bin/sh\necho "$KONG_X|$*|$IFS|"\nexit 3\n')
    for script in tmp_path.glob("*/kong"):
        script.chmod(0o755)
    (tmp_path / f"run/{UID}/environment.sh").write_text('if [ -z "${KONG_X+set}" ]; then export KONG_X=ours; fi\n')
    return tmp_path


def kong(place: Path, *path: str, **environ: str) -> subprocess.CompletedProcess[str]:
    folders = [*(str(place / name) for name in path), "/usr/bin", "/bin"]
    variables = {"PATH": ":".join(folders), "KONG_PYTHON_RUN_DIR": str(place / "run"), "TMPDIR": str(place), **environ}
    return subprocess.run(
        ["kong", "reload", "a  b", "*"], env=variables, capture_output=True, text=True, check=False, timeout=30
    )


def test_it_runs_the_real_kong_with_the_entrypoints_environment(place: Path) -> None:
    done = kong(place, "wrapper", "real")
    assert (done.returncode, done.stdout) == (3, "ours|reload a  b *| \t\n|\n")


def test_the_default_run_directory_is_searched() -> None:
    assert f"${{{RUN_DIR.name}:-{RUN_DIR.default}}}/$user" in WRAPPER.read_text()


def test_variables_of_docker_exec_win(place: Path) -> None:
    assert kong(place, "wrapper", "real", KONG_X="mine").stdout.startswith("mine|")


def test_it_does_not_run_itself(place: Path) -> None:
    (place / "again").symlink_to("wrapper")
    assert kong(place, "wrapper", "again", "wrapper", "real").returncode == 3


def test_a_missing_kong_is_named(place: Path) -> None:
    done = kong(place, "wrapper")
    assert done.returncode == 127
    assert "no other kong in PATH" in done.stderr


def test_the_fallback_in_the_temporary_directory_is_found(place: Path) -> None:
    (place / "run" / UID).rename(place / f"kong-python-{UID}")
    assert kong(place, "wrapper", "real").stdout.startswith("ours|")


def test_a_link_is_not_followed(place: Path) -> None:
    (place / "run" / UID).rename(place / "elsewhere")
    (place / "run" / UID).symlink_to(place / "elsewhere")
    assert kong(place, "wrapper", "real").stdout.startswith("|reload")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_a_file_of_another_user_is_not_run(place: Path) -> None:
    os.chown(place / f"run/{UID}/environment.sh", 12345, 12345)
    assert kong(place, "wrapper", "real").stdout.startswith("|reload")
