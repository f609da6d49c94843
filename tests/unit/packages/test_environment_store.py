"""Which installed packages are used: this user's own and root's, if no other user could have changed them."""

from __future__ import annotations

import logging
import os
import pwd
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from kong_pdk.packages import environment_store
from kong_pdk.packages.environment_store import Store, StoreError
from kong_pdk.packages.plugin_packages import Packages
from kong_pdk.packages.requirements import Requirements
from kong_pdk.plugin import inspect
from unit.packages.conftest import Install

pytestmark = pytest.mark.usefixtures("fake_pip", "one")

Locate = Callable[[], Packages]

STRANGER = 12345
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory to another user")


def loose(path: Path) -> None:
    path.chmod(0o775)


def given_away(path: Path) -> None:
    os.chown(path, STRANGER, STRANGER)


def linked(path: Path) -> None:
    moved = path.rename(path.with_name("moved"))
    path.symlink_to(moved)


TAMPERED: list[tuple[Callable[[Path], None], str, str]] = [
    (loose, ".", r"can be written to by others (mode 0775)"),
    (loose, "..", r"its folder can be written to by others (mode 0775)"),
    (loose, "alpha.py", r"alpha.py in it can be written to by others"),
    (loose, "alpha-1.0.dist-info", r"alpha-1.0.dist-info in it can be written to by others"),
    (linked, ".", r"it is a symbolic link"),
    (given_away, ".", f"it belongs to uid {STRANGER}"),
    (given_away, "..", f"its folder belongs to uid {STRANGER}"),
    (given_away, "alpha.py", f"alpha.py in it belongs to uid {STRANGER}"),
]


@pytest.mark.parametrize(
    ("tamper", "what", "reason"),
    [pytest.param(*case, marks=AS_ROOT if case[0] is given_away else ()) for case in TAMPERED],
)
def test_an_environment_that_others_could_have_written_is_not_used(  # noqa: PLR0913, PLR0917
    tamper: Callable[[Path], None],
    what: str,
    reason: str,
    located: Locate,
    installed: Install,
    caplog: pytest.LogCaptureFixture,
) -> None:
    [made] = installed().directories("one")
    tamper(made.parent if what == ".." else made / what)
    packages = located()
    assert packages.directories("one") == []
    [refused] = [each for missing in packages.missing for each in packages.store.refused(missing)]
    assert f"{made} is not used: " in str(refused)
    assert reason in str(refused)
    assert ("chown -R" if tamper is given_away else "chmod -R go-w") in refused.hint

    (made / "alpha.py").write_text("raise RuntimeError('written by somebody else')\n")
    caplog.clear()
    [again] = installed().directories("one")
    assert again == made
    assert (again / "alpha.py").read_text() == "VERSION = '1.0'\n"
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"{refused}; it is installed again"
    ]


def test_without_an_install_the_message_names_the_directory(folder: Path, located: Locate, installed: Install) -> None:
    [made] = installed().directories("one")
    made.chmod(0o777)
    [problem] = inspect(folder, load=located().load).problems
    assert f"{made} is not used: it can be written to by others (mode 0777)" in str(problem)
    assert f"chmod -R go-w {made.parent}" in str(problem)


@pytest.mark.parametrize(("mode", "shared"), [(0o777, 0o1777), (0o2775, 0o3775), (0o1775, 0o1775), (0o755, 0o755)])
def test_a_shared_directory_stays_shared_and_gets_the_sticky_bit(
    mode: int, shared: int, installed: Install, data: Path
) -> None:
    data.mkdir()
    data.chmod(mode)
    [made] = installed().directories("one")
    assert stat.S_IMODE(data.stat().st_mode) == shared
    assert stat.S_IMODE((data / "environments").stat().st_mode) == shared
    assert stat.S_IMODE(made.parent.stat().st_mode) & 0o777 == stat.S_IMODE(made.stat().st_mode) & 0o777 == 0o755


@AS_ROOT
def test_users_who_share_a_volume_have_their_own_environments(
    located: Locate, installed: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    [made] = installed().directories("one")
    for path in (made.parent, *made.parent.rglob("*")):
        os.chown(path, STRANGER, 0)
    other_folder = made.parent.rename(made.parent.with_name(str(STRANGER)))

    packages = located()
    assert packages.directories("one") == []
    [refused] = packages.store.refused(packages.missing[0])
    assert str(refused).endswith(f"its folder belongs to uid {STRANGER}, and uid 0 uses its own and root's alone")
    [own] = installed().directories("one")
    assert own.parent.name == "0"
    assert (other_folder / own.name).is_dir()

    monkeypatch.setattr("os.geteuid", lambda: STRANGER)
    assert located().directories("one") == [other_folder / own.name]
    monkeypatch.setattr("os.geteuid", lambda: STRANGER + 1)
    assert located().directories("one") == [own]


@AS_ROOT
def test_the_owner_counts_and_not_the_name_of_the_folder(
    located: Locate, installed: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``COPY --chown=kong`` gives packages that root has installed in an earlier stage to another user."""
    [made] = installed().directories("one")
    for path in (made.parent, *made.parent.rglob("*")):
        os.chown(path, STRANGER, 0)
    monkeypatch.setattr("os.geteuid", lambda: STRANGER)
    assert located().directories("one") == [made]


@AS_ROOT
def test_a_folder_of_another_user_is_named() -> None:
    with tempfile.TemporaryDirectory() as data:
        shared = [Path(data), Path(data) / "environments"]
        other_folder = shared[1] / str(STRANGER + 1)
        other_folder.mkdir(parents=True)
        os.chown(other_folder, STRANGER, STRANGER)
        for path in shared:
            path.chmod(0o1777)
        os.seteuid(STRANGER + 1)
        try:
            store = Store(Path(data))
            with store.workspace() as work, pytest.raises(StoreError) as raised:
                (work / "environment").mkdir()
                store.accept(work / "environment", Requirements(Path("requirements.txt"), None, "0"))
        finally:
            os.seteuid(0)
    assert str(raised.value) == f"{other_folder} is of uid {STRANGER}, and in the way"
    assert "remove it, or name another KONG_PYTHON_DATA_DIR" in raised.value.hint


@AS_ROOT
@pytest.mark.parametrize(
    ("user", "volume", "used"),
    [(STRANGER, False, True), (STRANGER, True, False), (0, False, False)],
    ids=["any user of the image", "from a volume", "root"],
)
def test_packages_of_the_images_own_user(  # noqa: PLR0913, PLR0917
    user: int,
    volume: bool,
    used: bool,
    located: Locate,
    installed: Install,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image_user = STRANGER + 7
    [made] = installed().directories("one")
    for path in (made.parent, *made.parent.rglob("*")):
        os.chown(path, image_user, 0)
    made.parent.rename(made.parent.with_name(str(image_user)))
    monkeypatch.setattr(environment_store, "DEFAULT", data)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: SimpleNamespace(pw_uid=image_user))
    monkeypatch.setattr(sys, "prefix", "/proc" if volume else str(data.parent))
    monkeypatch.setattr("os.geteuid", lambda: user)
    assert bool(located().directories("one")) is used


@AS_ROOT
def test_packages_of_root_are_used_by_every_user(
    located: Locate, installed: Install, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.mkdir(mode=0o775)
    data.chmod(0o775)
    os.chown(data, STRANGER, 0)
    [made] = installed().directories("one")
    for path in (made, *made.rglob("*")):
        assert (path.stat().st_uid, path.stat().st_mode & 0o444) == (0, 0o444)
    # The owner of the data directory can continue to install.
    assert ((data / "environments").stat().st_uid, (data / "environments").stat().st_mode & 0o1777) == (
        STRANGER,
        0o1775,
    )
    monkeypatch.setattr("os.geteuid", lambda: STRANGER)
    assert located().directories("one") == [made]


@AS_ROOT
def test_a_file_system_without_owners_is_named(installed: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def rename_for_others(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        os.chown(moved, STRANGER, STRANGER)
        return moved

    monkeypatch.setattr(Path, "rename", rename_for_others)
    [problem] = installed().problems
    assert f"cannot be used: it belongs to uid {STRANGER}" in problem.message
    assert problem.hint and "keeps owners and modes" in problem.hint
