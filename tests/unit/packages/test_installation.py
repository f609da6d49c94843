"""Which packages are installed, where they are kept, and the messages in the log and the problems; pip is a fake."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import wheels
from kong_pdk.packages.installation import main
from kong_pdk.packages.pip import Outcome
from kong_pdk.plugin import inspect
from unit.packages.conftest import PLUGIN, Install, Write
from wheels import wheel

pytestmark = pytest.mark.usefixtures("fake_pip")

MONTH_SECONDS = 31 * 24 * 3600
BUILDING = {"KONG_PYTHON_INSTALL": "on"}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_each_plugin_has_its_own_version(folder: Path, write: Write, installed: Install) -> None:
    write("for-all.py", f"import alpha\nversion = alpha.VERSION + '.0'\n{PLUGIN}")
    write("own/plugin.py", f"import alpha, gamma\nversion = alpha.VERSION + '.0'\n{PLUGIN}")
    write("requirements.txt", "alpha\ngamma\n")
    write("own/requirements.txt", "alpha==1.0\n")
    packages = installed()
    assert packages.failed == {}
    inspection = inspect(folder, load=packages.load)
    assert inspection.problems == []
    assert {plugin.name: plugin.version for plugin in inspection.plugins} == {"for-all": "2.0.0", "own": "1.0.0"}


def test_a_folder_beside_a_plugins_file_may_hold_its_requirements(
    folder: Path, write: Write, installed: Install
) -> None:
    write("one.py", f"import alpha\n{PLUGIN}")
    write("one/requirements.txt", "alpha\n")
    assert inspect(folder, load=installed().load).problems == []


@pytest.mark.usefixtures("no_pip")
def test_empty_requirements_install_nothing(write: Write, installed: Install, data: Path) -> None:
    write("one.py")
    write("requirements.txt", "# nothing yet\n\n")
    write("no-plugin/requirements.txt", "nowhere\n")
    assert installed().wanted == {}
    assert not data.exists()


def test_installed_packages_need_no_pip(one: None, installed: Install, request: pytest.FixtureRequest) -> None:
    installed()
    request.getfixturevalue("no_pip")
    packages = installed()
    assert (packages.failed, packages.missing) == ({}, [])


def test_an_edit_is_installed_beside_the_old_environment(
    one: None, write: Write, installed: Install, data: Path
) -> None:
    before = installed().directories("one")
    write("requirements.txt", "alpha==2.0\n")
    after = installed().directories("one")
    assert before != after
    assert all((directory / "alpha.py").exists() for directory in [*before, *after])
    assert sorted(data.iterdir()) == [data / "environments"]


def test_an_install_is_two_lines_of_the_log(write: Write, installed: Install, caplog: pytest.LogCaptureFixture) -> None:
    write("one/plugin.py")
    file = write("one/requirements.txt", "beta==1.0\nalpha==1.0\n")
    with caplog.at_level(logging.INFO):
        installed()
    first, last = caplog.messages
    assert first == f"installing the packages of plugin one ({file})"
    assert re.fullmatch(r"installed 2 packages for plugin one in \d+\.\d s", last)


def test_unpinned_lines_are_named_once(write: Write, installed: Install, caplog: pytest.LogCaptureFixture) -> None:
    write("one.py")
    write("two/plugin.py")
    for_all = write("requirements.txt", "alpha # any\nbeta<2 ; python_version > '3'\n")
    write("two/requirements.txt", "alpha==1.0\n")
    installed()
    installed()
    assert warnings(caplog) == [
        f"{for_all}: the next install may bring other versions of alpha (line 1), beta<2 (line 2); "
        "pin them: alpha==2.0, beta==1.0"
    ]


def test_unpinned_lines_of_an_included_file_have_its_name(
    one: None, write: Write, installed: Install, caplog: pytest.LogCaptureFixture
) -> None:
    more = write("more.txt", "# more\nbeta\n")
    write("requirements.txt", "alpha==1.0\n-r more.txt\n")
    installed()
    assert f"may bring other versions of beta ({more}:2); pin them: beta==1.0" in caplog.text


def test_many_unpinned_lines_are_counted(
    one: None, write: Write, installed: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"many{number:02}" for number in range(14)]
    index = wheels.write(tmp_path / "more", *(wheel(name) for name in names))
    write("requirements.txt", "\n".join(names))
    installed(PIP_FIND_LINKS=str(index))
    [warning] = warnings(caplog)
    assert "many09 (line 10) and 4 more; pin them: many00==1.0, " in warning
    assert "many10" not in warning


def test_each_failure_is_listed(folder: Path, write: Write, installed: Install, data: Path) -> None:
    for name in ("one", "two"):
        write(f"{name}/plugin.py")
        write(f"{name}/requirements.txt", "# a comment\nalpha\nnowhere\n")
    write("requirements.txt", "neither\n")
    packages = installed()
    assert set(packages.failed) == {None, "one", "two"}
    assert [str(problem.file) for problem in packages.problems] == [str(folder / "requirements.txt")]
    problem = packages.failed["one"]
    assert (problem.file, problem.line, problem.plugin) == (folder / "one" / "requirements.txt", 3, "one")
    assert problem.message.startswith("the packages of plugin one cannot be installed: Could not find a version")
    assert list((data / "environments").iterdir()) == []


def test_a_crash_of_pip_is_one_line_without_a_password(
    one: None, installed: Install, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = "ERROR: Exception:\nTraceback (most recent call last):\n  File 'x'\n    f('s3c/r@t')\nKeyError: 's3c/r@t'\n"
    monkeypatch.setattr("kong_pdk.packages.pip.install", lambda *args: Outcome(2, crash, ""))
    with caplog.at_level(logging.INFO):
        [problem] = installed(PIP_INDEX_URL="https://bob:s3c%2Fr%40t@index.invalid/").problems
    assert problem.message.endswith("cannot be installed: pip crashed: KeyError: ****")
    assert caplog.messages[-1] == "pip: ERROR: pip crashed: KeyError: ****"
    assert "s3c" not in f"{problem}{caplog.text}"


def test_long_lines_of_pip_are_cut(
    one: None, write: Write, installed: Install, caplog: pytest.LogCaptureFixture
) -> None:
    write("requirements.txt", f"{'a' * 200}\n" + f"{'a' * 2000}\n")
    with caplog.at_level(logging.INFO):
        [problem] = installed().problems
    assert len(problem.message) < 600
    lines = [message for message in caplog.messages if message.startswith("pip: ")]
    assert lines
    assert max(map(len, lines)) < 600


def test_a_password_is_masked_before_a_line_is_cut(
    one: None, installed: Install, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = f"ERROR: {'x' * 480} https://me:{'s3cr3t' * 9}@index.invalid/\n"
    monkeypatch.setattr("kong_pdk.packages.pip.install", lambda *args: Outcome(1, output, ""))
    with caplog.at_level(logging.INFO):
        [problem] = installed().problems
    assert "x" * 480 in problem.message
    assert "s3c" not in f"{problem}{caplog.text}"


@pytest.mark.usefixtures("no_pip")
@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://bob:s3c/r@t@index.invalid/simple",
        "--extra-index-url='https://bob:s3c#r@t@index.invalid/simple'",
        "alpha @ https://bob:s3c?r@t@index.invalid/alpha-1.0-py3-none-any.whl",
        "https://bob:${GIVEN}@index.invalid/alpha-1.0-py3-none-any.whl",
        "-i https://bob:s3c[r@t@index.invalid/simple",
        "git+https://bob:s3c/r@t@index.invalid/alpha.git",
        "-r https://bob:s3c/r@t@index.invalid/more.txt",
    ],
)
@pytest.mark.parametrize("file", ["requirements.txt", "more.txt"])
def test_a_url_that_cannot_be_parsed_is_named_before_pip_runs(
    line: str, file: str, write: Write, installed: Install, caplog: pytest.LogCaptureFixture
) -> None:
    write("one.py")
    write("requirements.txt", "alpha\n-r more.txt\n")
    wrong = write(file, f"beta\n\n{line}\n")
    [problem] = installed(**BUILDING, GIVEN="s3c/r@t").problems
    assert (problem.file, problem.line) == (wrong, 3)
    assert "cannot be parsed" in problem.message
    assert problem.hint and "%2F for /" in problem.hint
    assert "s3c" not in f"{problem}{caplog.text}"


@pytest.mark.usefixtures("no_pip")
def test_a_password_that_must_be_escaped_is_named(
    one: None, installed: Install, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        [problem] = installed(PIP_INDEX_URL="http://me:pa/s3cr3t@127.0.0.1:9/simple").problems
    assert "the password in PIP_INDEX_URL holds a character that ends it" in problem.message
    assert problem.hint and "%2F for /" in problem.hint
    assert "s3c" not in f"{problem}{caplog.text}"


@pytest.mark.usefixtures("no_pip")
def test_a_variable_without_a_value_is_named(one: None, write: Write, installed: Install) -> None:
    write("requirements.txt", "alpha\n--index-url https://index.invalid:${PORT}/simple\n")
    [problem] = installed().problems
    assert problem.line == 2
    assert problem.hint and problem.hint.startswith("set PORT, or write")


@pytest.mark.usefixtures("no_pip")
@pytest.mark.parametrize("line", ["./native", "native @ file://{folder}/native", "-e ./native"])
@pytest.mark.parametrize("setting", ["", "wheels", "off"])
def test_nothing_is_built_by_default(line: str, setting: str, folder: Path, write: Write, installed: Install) -> None:
    text = line.format(folder=folder)
    write("one.py")
    write("native/pyproject.toml", "")
    more = write("more.txt", f"alpha==1.0\n{text}\n")
    write("requirements.txt", "-r more.txt\n")
    [problem] = installed(KONG_PYTHON_INSTALL=setting).problems
    assert (problem.file, problem.line) == (more, 2)
    assert f"{text} has to be built from source, and KONG_PYTHON_INSTALL=wheels builds nothing" in problem.message
    assert problem.hint and "set KONG_PYTHON_INSTALL=on" in problem.hint


def test_pip_no_binary_is_ignored_with_a_warning(
    one: None, installed: Install, caplog: pytest.LogCaptureFixture
) -> None:
    assert installed(PIP_NO_BINARY="alpha").failed == {}
    assert warnings(caplog) == ["PIP_NO_BINARY is ignored: it asks for builds, and KONG_PYTHON_INSTALL is not on"]


def test_a_line_that_includes_a_missing_file_is_named(folder: Path, write: Write, installed: Install) -> None:
    write("one.py")
    file = write("requirements.txt", "alpha\n-r more.txt\n")
    [problem] = installed().problems
    assert str(problem) == f"{file}:2: there is no file {folder / 'more.txt'}; add it, or remove this line"


def test_leftovers_of_a_killed_start_are_removed(one: None, installed: Install, data: Path) -> None:
    (data / ".work-killed" / "environment").mkdir(parents=True)
    installed()
    assert [entry.name for entry in data.iterdir()] == ["environments"]


def test_environments_that_were_unused_for_a_month_are_removed(one: None, installed: Install, data: Path) -> None:
    long_ago = time.time() - MONTH_SECONDS
    user_folder = data / "environments" / str(os.geteuid())
    for path in (
        user_folder / "all-unused",
        user_folder / "all-used",
        user_folder / "all-recent",
        user_folder.with_name("all-of-an-old-version"),
    ):
        path.mkdir(parents=True)
        os.utime(path, (long_ago, long_ago) if path.name != "all-recent" else None)
    used = os.open(user_folder / "all-used", os.O_RDONLY)
    try:
        fcntl.flock(used, fcntl.LOCK_SH)
        [own] = installed().directories("one")
    finally:
        os.close(used)
    assert {entry.name for entry in user_folder.parent.iterdir()} == {user_folder.name}
    assert {entry.name for entry in user_folder.iterdir()} == {"all-used", "all-recent", own.name}


def test_the_wait_for_another_start_ends(one: None, installed: Install, data: Path) -> None:
    data.mkdir()
    other = os.open(data, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        [problem] = installed(KONG_PYTHON_INSTALL_SECONDS="1").problems
    finally:
        os.close(other)
    assert f"another start has been installing into {data} for 1 s" in problem.message


def test_a_data_directory_that_cannot_be_written_to(one: None, installed: Install, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    [problem] = installed(KONG_PYTHON_DATA_DIR=str(tmp_path / "file" / "below")).problems
    assert "cannot be written to (Not a directory)" in problem.message
    assert problem.hint and "--tmpfs" in problem.hint and "RUN kong-python install" in problem.hint


def test_a_full_disk_is_named(one: None, installed: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    [problem] = installed().problems
    assert "there is no room left in" in problem.message


@pytest.fixture
def command(
    environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[Path], tuple[int, str]]]:
    """Run ``kong-python install`` for a folder; gives its exit status and what it writes to standard error."""
    for name in os.environ.keys() - environ.keys():
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    numbers = (signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
    handlers = [signal.getsignal(number) for number in numbers]
    yield lambda folder: (main([str(folder)]), capsys.readouterr().err)
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def test_a_folder_without_requirements_has_nothing_to_install(
    command: Callable[[Path], tuple[int, str]], folder: Path, write: Write
) -> None:
    write("one.py")
    status, written = command(folder)
    assert (status, written.rstrip().endswith(f"{folder}: nothing to install")) == (0, True)


def test_a_folder_that_is_not_there_is_named(command: Callable[[Path], tuple[int, str]], folder: Path) -> None:
    status, written = command(folder / "none")
    assert status == 78
    assert f"{folder / 'none'}: there is no such folder" in written


def test_an_install_that_fails_ends_with_78(
    command: Callable[[Path], tuple[int, str]], folder: Path, write: Write
) -> None:
    write("one.py")
    write("requirements.txt", "nowhere\n")
    status, written = command(folder)
    assert status == 78
    assert f"[error] kong-python: {folder}/requirements.txt:1: the packages of all plugins cannot be" in written
