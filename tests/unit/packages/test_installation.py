"""Installing what requirements.txt asks for: by pip, once, whole, and named where it fails."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import wheels
from kong_pdk.masking import has_unparsable_url
from kong_pdk.packages.installation import install
from kong_pdk.packages.pip import Outcome
from kong_pdk.packages.pip_errors import without_traceback
from kong_pdk.packages.plugin_packages import Packages, locate
from kong_pdk.plugin import inspect
from unit.packages.conftest import PLUGIN, Write
from wheels import wheel

MONTH_SECONDS = 31 * 24 * 3600


def installed(folder: Path, environ: Mapping[str, str]) -> Packages:
    return install(locate(folder, environ), environ)


def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail on a run of pip."""

    def run(*arguments: object, **options: object) -> object:
        raise AssertionError("pip was run")

    monkeypatch.setattr("kong_pdk.packages.pip.install", run)


def test_each_plugin_has_its_own_version(folder: Path, write: Write, environ: Mapping[str, str]) -> None:
    write("for-all.py", f"import alpha\nversion = alpha.VERSION + '.0'\n{PLUGIN}")
    write("own/plugin.py", f"import alpha, beta\nversion = alpha.VERSION + '.0'\n{PLUGIN}")
    write("requirements.txt", "alpha\n")
    write("own/requirements.txt", "beta\n")
    packages = installed(folder, environ)
    assert packages.failed == {}
    inspection = inspect(folder, load=packages.load)
    assert inspection.problems == []
    assert {plugin.name: plugin.version for plugin in inspection.plugins} == {"for-all": "2.0.0", "own": "1.0.0"}


def test_a_plugin_sees_what_is_for_all_behind_its_own(folder: Path, write: Write, environ: Mapping[str, str]) -> None:
    write("own/plugin.py", f"import alpha, gamma\nversion = alpha.VERSION + '.0'\n{PLUGIN}")
    write("requirements.txt", "gamma\n")
    write("own/requirements.txt", "alpha==1.0\n")
    [plugin] = inspect(folder, load=installed(folder, environ).load).plugins
    assert plugin.version == "1.0.0"


def test_a_folder_beside_a_plugins_file_may_hold_its_requirements(
    folder: Path, write: Write, environ: Mapping[str, str]
) -> None:
    write("one.py", f"import alpha\n{PLUGIN}")
    write("one/requirements.txt", "alpha\n")
    assert inspect(folder, load=installed(folder, environ).load).problems == []


def test_nothing_asked_for_touches_nothing(folder: Path, write: Write, environ: Mapping[str, str], data: Path) -> None:
    write("one.py")
    write("requirements.txt", "# nothing yet\n\n")
    write("no-plugin/requirements.txt", "nowhere\n")
    assert installed(folder, environ).wanted == {}
    assert not data.exists()


def test_what_is_there_takes_no_run_of_pip(
    folder: Path, write: Write, environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("one.py")
    write("requirements.txt", "alpha\n")
    installed(folder, environ)
    no_pip(monkeypatch)
    packages = installed(folder, environ)
    assert (packages.failed, packages.missing) == ({}, [])


def test_an_edit_is_installed_beside_what_was(
    folder: Path, write: Write, environ: Mapping[str, str], data: Path
) -> None:
    write("one.py")
    write("requirements.txt", "alpha==1.0\n")
    before = installed(folder, environ).directories("one")
    write("requirements.txt", "alpha==2.0\n")
    after = installed(folder, environ).directories("one")
    assert before != after
    assert all((directory / "alpha.py").exists() for directory in [*before, *after])
    assert sorted(data.iterdir()) == [data / "environments"]


def test_it_says_what_it_does_and_no_more(
    folder: Path, write: Write, environ: Mapping[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    write("one/plugin.py")
    file = write("one/requirements.txt", "beta==1.0\n")
    with caplog.at_level(logging.INFO):
        installed(folder, environ)
    first, last = caplog.messages
    assert first == f"installing the packages of plugin one ({file})"
    assert re.fullmatch(r"installed 2 packages for plugin one in \d+\.\d s", last)


def test_a_failure_is_a_problem_with_line_and_hint(
    folder: Path, write: Write, environ: Mapping[str, str], data: Path
) -> None:
    write("one/plugin.py")
    file = write("one/requirements.txt", "# as the docs say\nalpha\nnowhere>=3\n")
    packages = installed(folder, environ)
    [problem] = inspect(folder, load=packages.load).problems
    assert (problem.file, problem.line, problem.plugin) == (file, 3, "one")
    assert problem.message.startswith("the packages of plugin one cannot be installed: the index has no nowhere>=3 for")
    assert problem.hint and "fix the name" in problem.hint
    assert list((data / "environments").iterdir()) == []


def test_unpinned_lines_are_said_once(
    folder: Path, write: Write, environ: Mapping[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    write("one.py")
    write("two/plugin.py")
    for_all = write("requirements.txt", "alpha # any\nbeta<2 ; python_version > '3'\n")
    write("two/requirements.txt", "alpha==1.0\n")
    installed(folder, environ)
    installed(folder, environ)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"{for_all}: the next install may bring other versions of alpha (line 1), beta<2 (line 2); "
        "pin them: alpha==1.0, beta==1.0"
    ]


def test_unpinned_lines_of_another_file_are_said_with_its_name(
    folder: Path, write: Write, environ: Mapping[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    write("one.py")
    more = write("more.txt", "# more\nbeta\n")
    write("requirements.txt", "alpha==1.0\n-r more.txt\n")
    installed(folder, environ)
    assert f"may bring other versions of beta ({more}:2); pin them: beta==1.0" in caplog.text


def test_many_unpinned_lines_are_counted(
    folder: Path, write: Write, environ: Mapping[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"many{number:02}" for number in range(14)]
    index = wheels.write(tmp_path / "more", *(wheel(name) for name in names))
    write("one.py")
    write("requirements.txt", "\n".join([*names]))
    installed(folder, {**environ, "PIP_FIND_LINKS": str(index)})
    [said] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "many09 (line 10) and 4 more; pin them: many00==1.0, " in said
    assert "many10" not in said


def test_what_the_pdk_needs_is_not_replaced_by_what_it_cannot_use(
    folder: Path, write: Write, environ: Mapping[str, str]
) -> None:
    write("one.py")
    write("requirements.txt", "old-msgpack\n")
    [problem] = installed(folder, environ).problems
    assert re.search(r"old-msgpack 1\.0 depends on msgpack<1, kong-python itself.* needs msgpack", problem.message)


def test_all_that_fails_is_listed(folder: Path, write: Write, environ: Mapping[str, str]) -> None:
    for name in ("one", "two"):
        write(f"{name}/plugin.py")
        write(f"{name}/requirements.txt", "nowhere\n")
    write("requirements.txt", "neither\n")
    packages = installed(folder, environ)
    assert set(packages.failed) == {None, "one", "two"}
    assert [str(problem.file) for problem in packages.problems] == [str(folder / "requirements.txt")]


def test_pips_own_words_are_in_the_log_of_a_failure(
    folder: Path, write: Write, environ: Mapping[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    write("one.py")
    write("requirements.txt", "nowhere\n")
    with caplog.at_level(logging.INFO):
        installed(folder, environ)
    assert "pip: ERROR: No matching distribution found for nowhere" in caplog.messages


def test_an_index_that_cannot_be_reached_is_named(folder: Path, write: Write, environ: Mapping[str, str]) -> None:
    write("one.py")
    write("requirements.txt", "alpha\n")
    index = {"PIP_INDEX_URL": "http://me:secret@127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    [problem] = installed(folder, {**environ, **index, "PIP_NO_INDEX": "", "PIP_FIND_LINKS": ""}).problems
    assert "cannot reach the index 127.0.0.1:9 (Connection refused)" in problem.message
    assert "secret" not in str(problem)
    assert problem.hint and "PIP_INDEX_URL" in problem.hint


@pytest.mark.parametrize(
    "index",
    [
        "http://me:pa/s-s3cr3t@127.0.0.1:9/simple",
        "http://me:pas-s3cr3t@x@127.0.0.1:9/simple",
        "http://me:12/pas-s3cr3t@127.0.0.1:9/simple",
        "http://me:pa#s-s3cr3t@127.0.0.1:9/simple",
        "http://to/ken-pas-s3cr3t@127.0.0.1:9/simple",
        "http://pas-s3cr3t@127.0.0.1:9/simple",
        "http://127.0.0.1:9/simple?access_token=pas-s3cr3t",
    ],
)
@pytest.mark.parametrize("place", ["variable", "file", "file with a variable"])
def test_no_password_gets_into_the_log(  # noqa: PLR0913, PLR0917
    index: str,
    place: str,
    folder: Path,
    write: Write,
    environ: Mapping[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    given = {**environ, "PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_RETRIES": "0"}
    write("one.py")
    if place == "variable":
        given["PIP_INDEX_URL"] = index
        write("requirements.txt", "alpha\n")
    elif place == "file":
        write("requirements.txt", f"--index-url {index}\nalpha\n")
    else:
        secret = index.removeprefix("http://").partition("@127")[0]
        given["SECRET"] = secret
        write("requirements.txt", f"--index-url {index.replace(secret, '${SECRET}')}\nalpha\n")
    with caplog.at_level(logging.INFO):
        [problem] = installed(folder, given).problems
    said = f"{problem}\n{caplog.text}"
    assert "pip: " in said or "%2F for /" in said
    assert "s3cr3t" not in said


def test_a_password_that_must_be_escaped_is_named(folder: Path, write: Write, environ: Mapping[str, str]) -> None:
    write("one.py")
    write("requirements.txt", "alpha\n")
    index = {"PIP_INDEX_URL": "http://me:pa/ss@127.0.0.1:9/simple", "PIP_NO_INDEX": "", "PIP_FIND_LINKS": ""}
    [problem] = installed(folder, {**environ, **index, "PIP_RETRIES": "0"}).problems
    assert "the password in PIP_INDEX_URL holds a character that ends it" in problem.message
    assert problem.hint and "%2F for /" in problem.hint


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
@pytest.mark.parametrize("included", [False, True])
def test_a_url_that_cannot_be_parsed_is_named_before_pip_runs(  # noqa: PLR0913, PLR0917
    line: str,
    included: bool,
    folder: Path,
    write: Write,
    environ: Mapping[str, str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_pip(monkeypatch)
    write("one.py")
    wrong = folder / ("more.txt" if included else "requirements.txt")
    write("requirements.txt", "alpha\n-r more.txt\n")
    write(wrong.name, f"beta\n\n{line}\n")
    [problem] = installed(folder, {**environ, **BUILDING, "GIVEN": "s3c/r@t"}).problems
    assert (problem.file, problem.line) == (wrong, 3)
    assert "cannot be parsed" in problem.message
    assert problem.hint and "%2F for /" in problem.hint
    assert "s3c" not in f"{problem}{caplog.text}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("--index-url 'https://index.invalid:8443'", False),
        ('--index-url="https://bob:s3c%2Fr%40t@index.invalid:8443/simple"', False),
        ("alpha @ https://index.invalid/@scope/alpha@1.0-py3-none-any.whl#sha256=0", False),
        ("git+ssh://git@host.invalid:org/alpha.git", False),
        ("git+https://host.invalid/org/alpha.git@feature/x", False),
        ("https://[::1]:8080/simple", False),
        ("https://bob:${UNSET}@index.invalid/simple", False),
        ("https://index.invalid:${UNSET}/simple", True),
    ],
)
def test_a_url_that_pip_can_use_is_none_that_cannot_be_parsed(text: str, found: bool) -> None:
    assert has_unparsable_url(text) is found


def test_a_variable_that_is_not_set_is_named(folder: Path, write: Write, environ: Mapping[str, str]) -> None:
    write("one.py")
    write("requirements.txt", "alpha\n--index-url https://index.invalid:${PORT}/simple\n")
    [problem] = installed(folder, environ).problems
    assert problem.line == 2
    assert problem.hint and problem.hint.startswith("set PORT, or write")


def test_a_password_that_may_be_a_path_is_named_when_pip_has_failed(
    folder: Path, write: Write, environ: Mapping[str, str]
) -> None:
    write("one.py")
    write("requirements.txt", "alpha\n--index-url http://me:12/pas-s3cr3t@127.0.0.1:9/simple\n")
    given = {**environ, "PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_RETRIES": "0", "no_proxy": "*"}
    [problem] = installed(folder, given).problems
    assert problem.line == 2
    assert "the password in the URL here holds a character that ends it" in problem.message


CRASH = """Looking in indexes: https://bob:****@index.invalid/simple
ERROR: Exception:
Traceback (most recent call last):
  File "/lib/one.py", line 1, in one
    first("s3c/r@t")
KeyError: 's3c'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/lib/two.py", line 2, in two
    second()
{}
"""


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("ValueError: Port could not be cast to integer value as 's3c'", "ValueError: Port .* integer value as [*]{4}"),
        ("pip._vendor.requests.exceptions.InvalidURL: Failed to parse: bob:s3c", "InvalidURL: a URL cannot be parsed"),
        ("lib.Error: no 'simple' at 's3c'", "Error: no 'simple' at [*]{4}"),
        ("lib.Error: several lines\n  s3c\ns3c", "Error: several lines"),
        ("AssertionError", "AssertionError"),
    ],
)
def test_a_traceback_of_pip_is_one_line(  # noqa: PLR0913, PLR0917
    raised: str,
    said: str,
    folder: Path,
    write: Write,
    environ: Mapping[str, str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kong_pdk.packages.pip.install", lambda *given: Outcome(2, CRASH.format(raised), ""))
    write("one.py")
    write("requirements.txt", "alpha\n")
    with caplog.at_level(logging.INFO):
        [problem] = installed(folder, {**environ, "PIP_INDEX_URL": "https://bob:s3c%2Fr%40t@index.invalid/"}).problems
    assert re.search(rf"cannot be installed: pip crashed: {said}$", problem.message)
    assert re.fullmatch(rf"pip: ERROR: pip crashed: {said}", caplog.messages[-1])
    assert "s3c" not in f"{problem}{caplog.text}"
    assert "Traceback" not in caplog.text


def test_what_pip_says_after_the_traceback_of_a_program_counts() -> None:
    output = CRASH.format("KeyError: 'x'").replace("ERROR: Exception:\n", "") + "ERROR: No matching distribution\n"
    assert without_traceback(output, ()).splitlines()[1:] == [
        "ERROR: pip crashed: KeyError: 'x'",
        "ERROR: No matching distribution",
    ]


BUILDING = {"KONG_PYTHON_INSTALL": "on"}
# A build that needs no other package, and so no index.
BACKEND = """
import json, os, pathlib, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    pathlib.Path({!r}).write_text(json.dumps(dict(os.environ)))
    name = "native-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w") as made:
        made.writestr("native.py", "VERSION = '1.0'")
        made.writestr("native-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: native\\nVersion: 1.0\\n")
        made.writestr("native-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\nRoot-Is-Purelib: true\\n")
        made.writestr("native-1.0.dist-info/RECORD", "")
    return name
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
SECRETS = {"KONG_PG_PASSWORD": "x", "AWS_SECRET_ACCESS_KEY": "x", "DATABASE_URL": "x"}


@pytest.fixture
def native(tmp_path: Path, write: Write) -> Path:
    """Write a package whose build tells its environment, and give the file in which it does."""
    told = tmp_path / "told"
    write("native/backend.py", BACKEND.format(str(told)))
    write("native/pyproject.toml", PROJECT)
    write("one.py", f"import native\n{PLUGIN}")
    return told


def test_a_build_sees_nothing_but_what_pip_needs(
    folder: Path, write: Write, environ: Mapping[str, str], native: Path
) -> None:
    write("requirements.txt", "./native\n--find-links ${NAMED_IN_FILE}\n")
    known = {
        "HTTPS_PROXY": "",
        "no_proxy": "*",
        "LC_ALL": "C.UTF-8",
        "CC": "cc",
        "SOURCE_DATE_EPOCH": "0",
        "PIP_RETRIES": "1",
    }
    named = {
        "NAMED_IN_FILE": "/nowhere",
        "MYSQLCLIENT_CFLAGS": "-g",
        "KONG_PYTHON_INSTALL_VARIABLES": " MYSQLCLIENT_CFLAGS, ",
    }
    given = {**environ, **SECRETS, **known, **named, **BUILDING}
    assert installed(folder, given).failed == {}
    seen = json.loads(native.read_text())
    assert not SECRETS.keys() & seen.keys()
    assert not {name for name in seen if name.startswith("KONG_")}
    assert seen["PATH"].endswith(given["PATH"])  # pip puts a folder of its own before it
    wanted = {"HOME", *known, "NAMED_IN_FILE", "MYSQLCLIENT_CFLAGS"}
    assert {name: seen.get(name) for name in wanted} == {name: given[name] for name in wanted}


@pytest.mark.parametrize("line", ["./native", "native @ file://{folder}/native", "-e ./native"])
@pytest.mark.parametrize("setting", ["", "wheels", "off"])
def test_nothing_is_built_unless_asked_for(  # noqa: PLR0913, PLR0917
    line: str, setting: str, folder: Path, write: Write, environ: Mapping[str, str], native: Path
) -> None:
    text = line.format(folder=folder)
    more = write("more.txt", f"alpha==1.0\n{text}\n")
    write("requirements.txt", "-r more.txt\n")
    [problem] = installed(folder, {**environ, "KONG_PYTHON_INSTALL": setting}).problems
    assert (problem.file, problem.line) == (more, 2)
    assert f"{text} has to be built from source, and KONG_PYTHON_INSTALL=wheels builds nothing" in problem.message
    assert problem.hint and "set KONG_PYTHON_INSTALL=on" in problem.hint
    assert not native.exists()


@pytest.fixture
def archive(folder: Path, native: Path, tmp_path: Path) -> Path:
    """Put that package into a source archive, in a folder for ``PIP_FIND_LINKS``."""
    (folder / "native").rename(tmp_path / "native-1.0")
    (tmp_path / "native-1.0" / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: native\nVersion: 1.0\n")
    links = tmp_path / "sources"
    links.mkdir()
    with tarfile.open(links / "native-1.0.tar.gz", "w:gz") as made:
        made.add(tmp_path / "native-1.0", "native-1.0")
    return links


def test_a_package_that_is_there_as_source_alone(
    folder: Path, write: Write, environ: Mapping[str, str], native: Path, archive: Path
) -> None:
    write("requirements.txt", "native==1.0\n")
    given = {**environ, "PIP_FIND_LINKS": str(archive)}
    [problem] = installed(folder, given).problems
    assert problem.line == 1
    assert "the index has no wheel of native==1.0 for" in problem.message
    assert problem.hint and "set KONG_PYTHON_INSTALL=on" in problem.hint
    assert not native.exists()
    packages = installed(folder, {**given, **BUILDING})
    assert inspect(folder, load=packages.load).problems == []
    assert native.exists()


def test_the_metadata_of_a_wheel_cannot_ask_for_a_build(  # noqa: PLR0913, PLR0917
    folder: Path, write: Write, environ: Mapping[str, str], native: Path, tmp_path: Path, archive: Path
) -> None:
    where = tmp_path / "native-1.0"
    wheels.write(archive, wheel("direct", needs=(f"native @ {where.as_uri()}",)))
    write("requirements.txt", "direct==1.0\n")
    given = {**environ, "PIP_FIND_LINKS": str(archive)}
    [problem] = installed(folder, given).problems
    assert f"{where}, which direct==1.0 needs, has to be built from source" in problem.message
    assert not native.exists()


def test_pips_own_wish_to_build_is_said_not_to_count(
    folder: Path, write: Write, environ: Mapping[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    write("one.py")
    write("requirements.txt", "alpha==1.0\n")
    assert installed(folder, {**environ, "PIP_NO_BINARY": "alpha"}).failed == {}
    [said] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said == "PIP_NO_BINARY is ignored: it asks for builds, and KONG_PYTHON_INSTALL is not on"


SDIST = "from setuptools import Extension, setup\nsetup(name='native', version='1', ext_modules=[{}])\n"


def test_a_package_that_needs_a_compiler_is_named(folder: Path, write: Write, environ: Mapping[str, str]) -> None:
    write("one.py")
    write("native/setup.py", SDIST.format("Extension('native', ['native.c'])"))
    write("native/native.c", "int x;\n")
    write("requirements.txt", "./native\n")
    bare = {"CC": "/nowhere/some-cc", "PIP_NO_BUILD_ISOLATION": "0"}
    [problem] = installed(folder, {**environ, **bare, **BUILDING}).problems
    assert "native" in problem.message
    assert "compiler" in str(problem)


FORKS_AND_WAITS = """
import os, pathlib, sys, time
if os.fork() == 0:
    pathlib.Path(os.environ["PIP_PID_FILE"]).write_text(str(os.getpid()))
time.sleep(600)
"""


def gone(pid: str) -> bool:
    """Wait until a process is no more; a zombie that nobody has reaped is none."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X"):
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_what_takes_too_long_is_killed(
    folder: Path, write: Write, environ: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("one.py")
    write("requirements.txt", "alpha\n")
    monkeypatch.setattr("kong_pdk.packages.pip._PIP", (sys.executable, "-c", FORKS_AND_WAITS))
    limit = {"KONG_PYTHON_INSTALL_SECONDS": "3", "PIP_CERT": "/any", "PIP_PID_FILE": str(tmp_path / "pid")}
    [problem] = installed(folder, {**environ, **limit, **BUILDING}).problems
    assert "pip was not ready after 3 s" in problem.message
    assert problem.hint and "KONG_PYTHON_INSTALL_SECONDS" in problem.hint
    assert gone((tmp_path / "pid").read_text())


COMMAND = "import sys; from kong_pdk.cli import main; sys.exit(main())"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_pip_too(
    number: signal.Signals, folder: Path, write: Write, environ: Mapping[str, str], data: Path
) -> None:
    write("one.py")
    write("requirements.txt", "alpha\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        index = {"PIP_INDEX_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/simple", "PIP_NO_INDEX": ""}
        with subprocess.Popen(
            [sys.executable, "-c", COMMAND, "install", str(folder)], env={**environ, **index}
        ) as process:
            pip, _ = silent.accept()
            process.send_signal(number)
            assert process.wait(30) == 128 + number
        with pip:
            pip.settimeout(30)
            while pip.recv(65536):
                pass
    assert [entry.name for entry in data.iterdir()] == ["environments"]


def test_what_a_killed_start_left_is_removed(
    folder: Path, write: Write, environ: Mapping[str, str], data: Path
) -> None:
    write("one.py")
    write("requirements.txt", "alpha\n")
    (data / ".work-killed" / "environment").mkdir(parents=True)
    installed(folder, environ)
    assert [entry.name for entry in data.iterdir()] == ["environments"]


def test_what_nobody_has_used_for_a_month_is_removed(
    folder: Path, write: Write, environ: Mapping[str, str], data: Path
) -> None:
    write("one.py")
    long_ago = time.time() - MONTH_SECONDS
    mine = data / "environments" / str(os.geteuid())
    for path in (mine / "all-unused", mine / "all-used", mine / "all-recent", mine.with_name("all-of-an-old-version")):
        path.mkdir(parents=True)
        os.utime(path, (long_ago, long_ago) if path.name != "all-recent" else None)
    used = os.open(mine / "all-used", os.O_RDONLY)
    try:
        fcntl.flock(used, fcntl.LOCK_SH)
        write("requirements.txt", "alpha\n")
        [own] = installed(folder, environ).directories("one")
    finally:
        os.close(used)
    assert {entry.name for entry in mine.parent.iterdir()} == {mine.name}
    assert {entry.name for entry in mine.iterdir()} == {"all-used", "all-recent", own.name}


def test_two_starts_at_once_install_once(folder: Path, write: Write, environ: Mapping[str, str], data: Path) -> None:
    write("one.py")
    write("requirements.txt", "alpha\n")
    command = [sys.executable, "-c", COMMAND, "install", str(folder)]
    starts = [subprocess.Popen(command, env=dict(environ), stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [start.communicate(timeout=60)[1] for start in starts]
    assert [start.returncode for start in starts] == [0, 0, 0]
    assert sum("installed 1 package for all plugins" in text for text in said) == 1, said
    assert len(list((data / "environments").iterdir())) == 1


def test_a_start_that_installs_for_ever_is_not_waited_for(
    folder: Path, write: Write, environ: Mapping[str, str], data: Path
) -> None:
    write("one.py")
    write("requirements.txt", "alpha\n")
    data.mkdir()
    other = os.open(data, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        [problem] = installed(folder, {**environ, "KONG_PYTHON_INSTALL_SECONDS": "1"}).problems
    finally:
        os.close(other)
    assert f"another start has been installing into {data} for 1 s" in problem.message


def test_a_data_directory_that_cannot_be_written_to(
    folder: Path, write: Write, environ: Mapping[str, str], tmp_path: Path
) -> None:
    write("one.py")
    write("requirements.txt", "alpha\n")
    (tmp_path / "file").touch()
    [problem] = installed(folder, {**environ, "KONG_PYTHON_DATA_DIR": str(tmp_path / "file" / "below")}).problems
    assert "cannot be written to (Not a directory)" in problem.message
    assert problem.hint and "--tmpfs" in problem.hint and "RUN kong-python install" in problem.hint


def test_a_full_disk_is_named(
    folder: Path, write: Write, environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("one.py")
    write("requirements.txt", "alpha\n")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    [problem] = installed(folder, environ).problems
    assert "there is no room left in" in problem.message


def test_a_requirements_file_that_refers_to_nothing(folder: Path, write: Write, environ: Mapping[str, str]) -> None:
    write("one.py")
    file = write("requirements.txt", "alpha\n-r more.txt\n")
    [problem] = installed(folder, environ).problems
    assert str(problem) == f"{file}:2: there is no file {folder / 'more.txt'}; add it, or remove this line"


def test_users_settings_of_where_to_install_do_not_count(
    folder: Path, write: Write, environ: Mapping[str, str], tmp_path: Path
) -> None:
    write("one.py", f"import alpha\n{PLUGIN}")
    write("requirements.txt", "alpha\n")
    elsewhere = {"PIP_USER": "1", "PIP_PREFIX": str(tmp_path / "elsewhere"), "PIP_REQUIRE_VIRTUALENV": "1"}
    (tmp_path / "pip.conf").write_text("[install]\nuser = true\n")
    packages = installed(folder, {**environ, **elsewhere, "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")})
    assert inspect(folder, load=packages.load).problems == []


def test_modules_beside_the_requirements_are_not_pips(folder: Path, write: Write, environ: Mapping[str, str]) -> None:
    write("one.py")
    write("logging.py", "raise RuntimeError('this is no module for pip')\n")
    write("requirements.txt", "alpha\n")
    assert installed(folder, environ).failed == {}


def test_nothing_is_written_elsewhere(
    folder: Path, write: Write, environ: Mapping[str, str], tmp_path: Path, data: Path
) -> None:
    write("one.py")
    write("requirements.txt", "beta\n")
    # Without a rustc in PATH: pip asks for its version, and rustup's writes to the home directory.
    installed(folder, {**environ, "PATH": os.defpath})
    assert not (tmp_path / "home").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["one.py", "requirements.txt"]
    assert [path.name for path in data.iterdir()] == ["environments"]


def test_pip_s_longest_lines_are_cut(
    folder: Path, write: Write, environ: Mapping[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write("one.py")
    write("requirements.txt", f"{'a' * 2000}\n")

    (problem,) = install(locate(folder, environ), environ).failed.values()

    assert problem.line == 1
    said = [message for message in caplog.messages if message.startswith("pip: ")]
    assert said and max(map(len, said)) < 450
