"""The run directory: its owner, its fallback, the directories it refuses."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from kong_pdk.exit_status import StartError
from kong_pdk.image.run_directory import RunDirectory, locate, prepare

UID = str(os.getuid())


def test_only_its_user_can_enter_it(run: RunDirectory) -> None:
    for folder in (run.path, run.sockets, run.dumps):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert run.path.name == UID


@pytest.mark.skipif(os.getuid() != 0, reason="only root's nginx has workers of another user")
@pytest.mark.parametrize(("user", "owner"), [("nobody", "nobody"), ("nobody  nogroup", "nobody"), ("no-such", "root")])
def test_where_kong_is_root_its_workers_reach_the_sockets(tmp_path: Path, user: str, owner: str) -> None:
    run = prepare({"KONG_PYTHON_RUN_DIR": str(tmp_path / "run"), "KONG_NGINX_MAIN_USER": user})
    assert run.sockets.owner() == owner
    assert stat.S_IMODE(run.path.stat().st_mode) == (0o700 if owner == "root" else 0o711)
    assert stat.S_IMODE(run.sockets.stat().st_mode) == stat.S_IMODE(run.dumps.stat().st_mode) == 0o700
    assert run.dumps.owner() == "root"


def test_a_second_start_uses_the_directory_of_the_first(tmp_path: Path) -> None:
    environ = {"KONG_PYTHON_RUN_DIR": str(tmp_path), "KONG_NGINX_MAIN_USER": "root"}
    first = prepare(environ)
    first.path.chmod(0o755)
    assert prepare(environ) == first == locate(environ)
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o700


def test_the_temporary_directory_takes_over(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environ = {"KONG_PYTHON_RUN_DIR": str(tmp_path / "file"), "TMPDIR": str(tmp_path)}
    run = prepare(environ)
    assert run.path == tmp_path / f"kong-python-{UID}"
    assert locate(environ) == run


@pytest.mark.parametrize("kind", ["link", "file"])
def test_an_entry_that_is_no_directory_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    place = tmp_path / "run" / UID
    place.parent.mkdir()
    if kind == "link":
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.touch()
    environ = {"KONG_PYTHON_RUN_DIR": str(place.parent), "TMPDIR": str(tmp_path)}
    assert prepare(environ).path == tmp_path / f"kong-python-{UID}"
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory to another user")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / UID).mkdir()
    os.chown(tmp_path / UID, 12345, 12345)
    run = prepare({"KONG_PYTHON_RUN_DIR": str(tmp_path), "TMPDIR": str(tmp_path)})
    assert run.path == tmp_path / f"kong-python-{UID}"


def test_no_place_at_all_names_the_hint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file" / "below")
    with pytest.raises(StartError, match=r"Not a directory.*--tmpfs /run/kong-python") as raised:
        prepare({"KONG_PYTHON_RUN_DIR": nowhere, "TMPDIR": nowhere})
    assert raised.value.status == 78


def test_locate_makes_nothing(tmp_path: Path) -> None:
    run = locate({"KONG_PYTHON_RUN_DIR": str(tmp_path / "run"), "TMPDIR": str(tmp_path)})
    assert run.path == tmp_path / "run" / UID
    assert list(tmp_path.iterdir()) == []


def test_sockets_of_a_killed_container_are_removed(run: RunDirectory) -> None:
    for path in (run.socket("a"), run.supervisor_socket):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
    run.remove_leftovers()
    assert not run.socket("a").exists()
    assert not run.supervisor_socket.exists()


def test_a_leftover_that_cannot_be_removed_is_named(run: RunDirectory) -> None:
    run.socket("a").mkdir()
    with pytest.raises(StartError, match=r"a\.sock: left by an earlier start"):
        run.remove_leftovers()


def test_writing_replaces_and_leaves_nothing_else(run: RunDirectory) -> None:
    run.write(run.dump("a"), "1")
    run.write(run.dump("a"), "2")
    assert run.dump("a").read_text() == "2"
    assert [file.name for file in run.dumps.iterdir()] == ["a.json"]


def test_a_file_that_cannot_be_written_is_named(run: RunDirectory) -> None:
    run.dumps.rmdir()
    with pytest.raises(StartError, match=r"a\.json: cannot be written: No such file"):
        run.write(run.dump("a"), "1")
