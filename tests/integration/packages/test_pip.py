"""Runs of pip itself: what it installs, sees and writes, and how it ends."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import wheels
from kong_pdk.packages.pip import IMPORTED, constraints, normalized
from kong_pdk.plugin import inspect
from process_states import is_alive
from programs import KONG_PYTHON
from unit.packages.conftest import PLUGIN, Install, Write
from waiting import wait_for
from wheels import wheel

BUILDING = {"KONG_PYTHON_INSTALL": "on"}
NO_WHEELS = {"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_RETRIES": "0"}


@pytest.fixture
def no_umask() -> Iterator[None]:
    """Let a program make files that everybody may write to, unless it takes care."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
def test_pip_installs_dependencies_and_writes_nowhere_else_and_nobody_else_may_write(
    folder: Path, write: Write, installed: Install, tmp_path: Path, data: Path
) -> None:
    write("one.py")
    write("requirements.txt", "beta\n")
    # Without a rustc in PATH: pip asks for its version, and rustup's rustc writes to the home directory.
    deep = data / "deep"  # its parent has to be made, too
    packages = installed(PATH=os.defpath, KONG_PYTHON_DATA_DIR=str(deep))
    [made] = packages.directories("one")
    assert {path.name for path in made.glob("*.py")} == {"alpha.py", "beta.py"}
    assert (made / "alpha.py").read_text() == "VERSION = '1.0'\n"
    assert not (tmp_path / "home").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["one.py", "requirements.txt"]
    assert [path for path in (data, *data.rglob("*")) if path.lstat().st_mode & 0o022] == []
    assert [path.name for path in deep.iterdir()] == ["environments"]


TWO = wheel("alpha"), wheel("msgpack", "1.1.0")
ALPHA, MSGPACK = (hashlib.sha256(content).hexdigest() for _, content in TWO)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        # kong-python's constraints have no hashes, and one of them is about msgpack.
        (f"alpha==1.0 --hash=sha256:{ALPHA}\nmsgpack==1.1.0 --hash=sha256:{MSGPACK}\n", None),
        (
            f"alpha==1.0 --hash=sha256:{MSGPACK}\nmsgpack==1.1.0 --hash=sha256:{MSGPACK}\n",
            rf"requirements\.txt:1: .*DO NOT MATCH THE HASHES.* Got +{ALPHA}.*; find out which hash is right",
        ),
        # A hash in one line demands one in each.
        (
            f"alpha==1.0 --hash=sha256:{ALPHA}\nmsgpack==1.1.0\n",
            r"requirements\.txt:2: .*Hashes are required in --require-hashes mode.*; pin every package",
        ),
        ("--require-hashes\nalpha==1.0\n", r"requirements\.txt:2: .*--require-hashes mode.*; pin every package"),
    ],
    ids=["right", "wrong", "missing", "demanded"],
)
def test_hashes_of_requirements(
    lines: str, message: str | None, write: Write, installed: Install, tmp_path: Path
) -> None:
    """pip's hash mode: nothing whose hash differs, or is missing beside others, is installed."""
    links = wheels.write(tmp_path / "links", *TWO)
    write("one.py", f"import alpha\n{PLUGIN}")
    write("requirements.txt", lines)
    packages = installed(PIP_FIND_LINKS=str(links))
    if message is None:
        [made] = packages.directories("one")
        assert {path.name for path in made.glob("*.py")} == {"alpha.py", "msgpack.py"}
    else:
        assert not packages.directories("one")
        [problem] = packages.failed.values()
        assert re.search(message, str(problem)), problem


def test_a_failure_has_line_and_hint_and_the_log_has_pips_output(
    write: Write, installed: Install, caplog: pytest.LogCaptureFixture
) -> None:
    write("one/plugin.py")
    file = write("one/requirements.txt", "# a comment\nalpha\nnowhere>=3\n")
    with caplog.at_level(logging.INFO):
        problem = installed().failed["one"]
    assert (problem.file, problem.line, problem.plugin) == (file, 3, "one")
    assert "requirement nowhere>=3 (from versions: none)" in problem.message
    assert problem.hint and "fix the name" in problem.hint
    assert "pip: ERROR: No matching distribution found for nowhere>=3" in caplog.messages


def test_packages_that_the_pdk_cannot_use_are_a_conflict(one: None, write: Write, installed: Install) -> None:
    write("requirements.txt", "old-msgpack\n")
    [problem] = installed().problems
    assert "old-msgpack 1.0 depends on msgpack<1" in problem.message
    assert problem.hint and "a constraint is kong-python's" in problem.hint


AT_SIGN_IN_PASSWORD = "http://me:pas-s3cr3t@x@127.0.0.1:9/simple"
TOKEN_AS_USER, TOKEN_IN_QUERY = "pas-s3cr3t@127.0.0.1:9/simple", "127.0.0.1:9/simple?access_token=pas-s3cr3t"


def test_an_index_that_cannot_be_reached_is_named_and_no_password(
    one: None, write: Write, installed: Install, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither those of variables nor those of the file, with or without variables in it."""
    lines = ["http://tok-s3cr3t@127.0.0.1:9/simple", "http://${USER_AND_HOST}", "http://${HOST_AND_QUERY}"]
    write("requirements.txt", "".join(f"--extra-index-url {line}\n" for line in lines) + "alpha\n")
    variables = {"PIP_INDEX_URL": AT_SIGN_IN_PASSWORD, "PIP_EXTRA_INDEX_URL": f"http://{TOKEN_IN_QUERY}"}
    more = {"USER_AND_HOST": TOKEN_AS_USER, "HOST_AND_QUERY": TOKEN_IN_QUERY, "no_proxy": "*"}
    with caplog.at_level(logging.INFO):
        [problem] = installed(**NO_WHEELS, **variables, **more).problems
    assert "127.0.0.1:9" in problem.message
    assert "Connection refused" in problem.message
    assert problem.hint and "PIP_INDEX_URL" in problem.hint
    [indexes] = [message for message in caplog.messages if message.startswith("pip: Looking in indexes: ")]
    assert indexes.count("http://") == 5
    assert "s3cr3t" not in f"{problem}{caplog.text}"


def test_passwords_that_may_be_paths_are_named_after_pip_has_failed(
    one: None, write: Write, installed: Install, caplog: pytest.LogCaptureFixture
) -> None:
    urls = "http://me:12/pas-s3cr3t@127.0.0.1:9/simple", "http://to/ken-pas-s3cr3t@127.0.0.1:9/simple"
    write("requirements.txt", "alpha\n--index-url {}\n--extra-index-url {}\n".format(*urls))
    with caplog.at_level(logging.INFO):
        [problem] = installed(**NO_WHEELS, no_proxy="*").problems
    assert problem.line == 2
    assert "the password in the URL here holds a character that ends it" in problem.message
    [indexes] = [message for message in caplog.messages if message.startswith("pip: Looking in indexes: ")]
    assert indexes.count("http://") == 2
    assert "s3cr3t" not in f"{problem}{caplog.text}"


# A build that needs no other package, and so no index. It writes its environment to a file.
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
def build_environment(tmp_path: Path, write: Write) -> Path:
    """Write a package, ./native, and give the file to which its build writes its environment."""
    file = tmp_path / "environment.json"
    write("native/backend.py", BACKEND.format(str(file)))
    write("native/pyproject.toml", PROJECT)
    write("one.py", f"import native\n{PLUGIN}")
    return file


def test_a_build_sees_only_the_variables_that_pip_needs(
    write: Write, environ: Mapping[str, str], installed: Install, build_environment: Path
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
    named = {"NAMED_IN_FILE": "/nowhere", "MYSQLCLIENT_CFLAGS": "-g"}
    setting = {"KONG_PYTHON_INSTALL_VARIABLES": " MYSQLCLIENT_CFLAGS, "}
    assert installed(**SECRETS, **known, **named, **setting, **BUILDING).failed == {}
    seen = json.loads(build_environment.read_text())
    assert not SECRETS.keys() & seen.keys()
    assert not {name for name in seen if name.startswith("KONG_")}
    assert seen["PATH"].endswith(environ["PATH"])  # pip puts a folder of its own before it
    wanted = {"HOME": environ["HOME"], **known, **named}
    assert {name: seen.get(name) for name in wanted} == wanted


@pytest.fixture
def archives(folder: Path, build_environment: Path, tmp_path: Path) -> Path:
    """Put the package into a source archive, in a folder for ``PIP_FIND_LINKS``."""
    (folder / "native").rename(tmp_path / "native-1.0")
    (tmp_path / "native-1.0" / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: native\nVersion: 1.0\n")
    links = tmp_path / "sources"
    links.mkdir()
    with tarfile.open(links / "native-1.0.tar.gz", "w:gz") as made:
        made.add(tmp_path / "native-1.0", "native-1.0")
    return links


def test_a_package_without_a_wheel(
    folder: Path, write: Write, installed: Install, build_environment: Path, archives: Path
) -> None:
    write("requirements.txt", "native==1.0\n")
    [problem] = installed(PIP_FIND_LINKS=str(archives)).problems
    assert problem.line == 1
    assert "satisfies the requirement native==1.0" in problem.message
    assert problem.hint and "the index has only its source" in problem.hint
    assert "set KONG_PYTHON_INSTALL=on" in problem.hint
    assert not build_environment.exists()
    packages = installed(PIP_FIND_LINKS=str(archives), **BUILDING)
    assert inspect(folder, load=packages.load).problems == []
    assert build_environment.exists()


def test_the_metadata_of_a_wheel_cannot_ask_for_a_build(
    write: Write, installed: Install, build_environment: Path, tmp_path: Path, archives: Path
) -> None:
    source = tmp_path / "native-1.0"
    wheels.write(archives, wheel("direct", needs=(f"native @ {source.as_uri()}",)))
    write("requirements.txt", "direct==1.0\n")
    [problem] = installed(PIP_FIND_LINKS=str(archives)).problems
    assert f"Processing {source}" in problem.message
    assert problem.message.endswith("a package would be built from source")
    assert not build_environment.exists()


SDIST = "from setuptools import Extension, setup\nsetup(name='native', version='1', ext_modules=[{}])\n"


def test_a_package_that_needs_a_compiler_is_named(one: None, write: Write, installed: Install) -> None:
    write("native/setup.py", SDIST.format("Extension('native', ['native.c'])"))
    write("native/native.c", "int x;\n")
    write("requirements.txt", "./native\n")
    [problem] = installed(CC="/nowhere/some-cc", PIP_NO_BUILD_ISOLATION="0", **BUILDING).problems
    assert "native" in problem.message
    assert problem.hint and "compiler" in problem.hint


def test_settings_for_other_targets_are_ignored(one: None, write: Write, installed: Install, tmp_path: Path) -> None:
    write("logging.py", "raise RuntimeError('pip must not import modules beside the requirements')\n")
    elsewhere = {"PIP_USER": "1", "PIP_PREFIX": str(tmp_path / "elsewhere"), "PIP_REQUIRE_VIRTUALENV": "1"}
    (tmp_path / "pip.conf").write_text("[install]\nuser = true\n")
    packages = installed(**elsewhere, PIP_CONFIG_FILE=str(tmp_path / "pip.conf"), PIP_CERT="")
    assert packages.failed == {}
    assert [(directory / "alpha.py").exists() for directory in packages.directories("one")] == [True]


FORKS_AND_WAITS = """
import os, pathlib, sys, time
if os.fork() == 0:
    pathlib.Path(os.environ["PIP_PID_FILE"]).write_text(str(os.getpid()))
time.sleep(600)
"""


def test_pip_and_its_children_are_killed_when_the_time_is_over(
    one: None, installed: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kong_pdk.packages.pip._PIP", (sys.executable, "-I", "-S", "-c", FORKS_AND_WAITS))
    limit = {"KONG_PYTHON_INSTALL_SECONDS": "3", "PIP_CERT": "/any", "PIP_PID_FILE": str(tmp_path / "pid")}
    [problem] = installed(**limit, **BUILDING).problems
    assert "pip did not end within 3 s" in problem.message
    assert problem.hint and "KONG_PYTHON_INSTALL_SECONDS" in problem.hint
    child = int((tmp_path / "pid").read_text())
    wait_for(lambda: not is_alive(child), lambda: f"process {child} still lives")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_pip_too(
    number: signal.Signals, one: None, folder: Path, environ: Mapping[str, str], data: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        index = {"PIP_INDEX_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/simple", "PIP_NO_INDEX": ""}
        with subprocess.Popen([KONG_PYTHON, "install", str(folder)], env={**environ, **index}) as process:
            pip, _ = silent.accept()
            process.send_signal(number)
            assert process.wait(30) == 128 + number
        with pip:
            pip.settimeout(30)
            while pip.recv(65536):
                pass
    assert [entry.name for entry in data.iterdir()] == ["environments"]


def test_two_starts_at_once_install_once(one: None, folder: Path, environ: Mapping[str, str], data: Path) -> None:
    starts = [
        subprocess.Popen([KONG_PYTHON, "install", str(folder)], env=dict(environ), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    logs = [start.communicate(timeout=60)[1] for start in starts]
    assert [start.returncode for start in starts] == [0, 0]
    assert sum("installed 1 package for all plugins" in text for text in logs) == 1, logs
    assert len(list((data / "environments").iterdir())) == 1


IMPORTS = """
import sys
from importlib.metadata import packages_distributions
before = set(sys.modules)
import kong_pdk.server.command_line, kong_pdk.server.server
import kong_pdk.server.workers.worker, kong_pdk.server.workers.master
from kong_pdk.metrics import recorder
import gevent.monkey
known = packages_distributions()
tops = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*{name for top in tops for name in known.get(top, ()) if top != "google"})
"""


def test_the_imports_of_a_plugin_server_have_constraints() -> None:
    """A library that the server imports later must be in IMPORTED; otherwise plugins could break it."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    imported = {normalized(name) for name in done.stdout.split()} - {"kong-python"}
    named = {normalized(re.split(r"[^\w.-]", line)[0]) for line in constraints().splitlines()}
    assert {"msgpack", "gevent"} <= imported
    assert imported <= named


def test_only_the_imports_of_a_plugin_server_have_constraints() -> None:
    lines = constraints().splitlines()
    named = {line.split("<")[0].split(">")[0].lower() for line in lines}
    assert {"msgpack", "protobuf"} <= named
    assert named.isdisjoint({"cryptography", "uvicorn", "pyyaml", "mypy"})
    assert all("[" not in line for line in lines)
    assert {"msgpack", "protobuf"} <= IMPORTED
