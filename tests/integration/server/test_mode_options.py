"""Engine and workers come from options, the plugin's module or variables, for a folder and for a single file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_kong import MsgpackKong
from waiting import DEADLINE, wait_for

PLUGIN = """
from time import sleep

from gevent import monkey

{attributes}

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        in_time = monkey.is_object_patched("time", "sleep") and sleep.__module__ == "gevent.hub"
        kong.response.set_header("x-mode", "gevent" if in_time else "threads")


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server
    start_dedicated_server("probe", Plugin)
"""
FOLDER, FILE = "folder", "file"
SERVER = Path(sys.executable).with_name("kong-python-pluginserver")
CASES = [
    ([], "", {}, ("threads", 1)),
    (["-g"], "", {}, ("gevent", 1)),
    (["--gevent", "--workers", "2"], "", {}, ("gevent", 2)),
    (["-gevent"], "engine = 'threads'", {}, ("gevent", 1)),
    (["--engine", "threads"], "engine = 'gevent'; workers = 2", {}, ("threads", 2)),
    (["--workers=1"], "workers = 3", {"KONG_PYTHON_WORKERS": "2"}, ("threads", 1)),
    ([], "engine = 'gevent'; workers = 3", {"KONG_PYTHON_WORKERS": "2"}, ("gevent", 3)),
    ([], "", {"KONG_PYTHON_ENGINE": "gevent", "KONG_PYTHON_WORKERS": "2"}, ("gevent", 2)),
]

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the server of a folder, or of a file, and wait until it listens."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(kind: str, text: str, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        folder = tmp_path / "plugins"
        folder.mkdir(exist_ok=True)
        (folder / "probe.py").write_text(text)
        command = [Path(sys.executable).with_name("kong-python-pluginserver"), "-d", folder]
        command = [sys.executable, str(folder / "probe.py")] if kind == FILE else command
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(
                [*command, "-p", str(tmp_path), "--socket-name", "s", *options], stdout=log, stderr=log, env=environment
            )
        running.append(process)
        socket = tmp_path / "s"
        wait_for(lambda: socket.exists() or process.poll() is not None, (tmp_path / "log").read_text)
        return process

    yield begin
    for process in running:
        process.terminate()
        process.wait(DEADLINE)


def children(process: subprocess.Popen[bytes]) -> int:
    return len(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())


@pytest.mark.parametrize(
    ("kind", "case"), [*((FOLDER, case) for case in CASES), *((FILE, CASES[index]) for index in (0, 2, 4, 6, 7))]
)
def test_the_choice_of_engine_and_workers(start, tmp_path, kind, case):
    options, attributes, variables, expected = case
    process = start(kind, PLUGIN.format(attributes=attributes), *options, **variables)
    kong = MsgpackKong(tmp_path / "s")
    assert kong.event(kong.start("probe"), "access")
    kong.close()
    alone = kind == FILE and expected == ("threads", 1)  # the file's own process serves
    assert (kong.made[0][1][1], children(process)) == (expected[0], 0 if alone else expected[1])


@pytest.mark.parametrize(
    ("kind", "spelling"), [(FOLDER, "-m"), (FILE, "-m"), (FOLDER, "--multiprocessing"), (FILE, "-multiprocessing")]
)
def test_multiprocessing_is_a_worker_for_each_core_and_two_at_least(start, kind, spelling):
    assert children(start(kind, PLUGIN.format(attributes=""), spelling)) >= 2


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--workers", "0"], "'0' is not a number from 1 to 64, or auto"), (["--engine", "asyncio"], "asyncio")],
)
def test_a_wrong_option_is_refused(start, tmp_path, options, words):
    assert start(FOLDER, PLUGIN.format(attributes=""), *options).wait(DEADLINE) == 2
    assert words in (tmp_path / "log").read_text()


def test_a_wrong_variable_is_refused(start, tmp_path):
    assert start(FOLDER, PLUGIN.format(attributes=""), KONG_PYTHON_WORKERS="many").wait(DEADLINE) == 78
    assert "KONG_PYTHON_WORKERS is 'many'; set it to a number from 1 to 64, or auto" in (tmp_path / "log").read_text()


def test_plugins_of_a_folder_that_disagree(start, tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "other.py").write_text(PLUGIN.format(attributes="engine = 'gevent'"))
    process = start(FOLDER, PLUGIN.format(attributes="engine = 'threads'; workers = 2"))
    assert children(process) == 2
    said = (tmp_path / "log").read_text()
    assert said.count("[warn] ") == 1
    assert "other: runs by threads in 2 worker(s), not as its module says" in said


def test_a_file_that_is_broken_when_its_workers_run_it_is_named(start, tmp_path):
    """The first process has run it well."""
    text = "import sys\nif 'gevent.monkey' in sys.modules:\n    raise ValueError('no greenlets here')\n"
    text += PLUGIN.format(attributes="").replace("from gevent import monkey\n", "")
    process = start(FILE, text, "-g")
    assert process.wait(DEADLINE) == 1
    said = (tmp_path / "log").read_text()
    assert "probe.py:3" in said
    assert "ValueError: no greenlets here" in said
    assert "Traceback" not in said


def test_a_file_keeps_its_arguments_and_its_place(start, tmp_path):
    text = PLUGIN.format(attributes="import sys, sibling; print('run', sys.argv[1:3], sibling.__file__)")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "sibling.py").write_text("")
    start(FILE, text, "-g")
    said = (tmp_path / "log").read_text()
    line = f"run ['-p', '{tmp_path}'] {tmp_path / 'plugins' / 'sibling.py'}"
    assert said.count(line) == 2
