"""Engine and workers come from options, the plugin's module or variables, for a folder and for a single file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_kong import MsgpackKong
from programs import PLUGINSERVER
from server_process import Served, Start
from waiting import DEADLINE

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

# What runs, the attributes of the plugin's module, variables, and the options for the server of the folder and of the
# file: between them, each spelling of an option.
CASES = [
    (("threads", 1), "", {}, "", ""),
    (("gevent", 1), "", {}, "-g", "-gevent"),
    (("gevent", 2), "", {}, "--gevent -workers 2", "-g --workers 2"),
    (("gevent", 1), "engine = 'threads'", {}, "-gevent", "--gevent"),
    (("threads", 2), "engine = 'gevent'; workers = 2", {}, "--engine threads", "-engine threads"),
    (("threads", 1), "workers = 3", {"KONG_PYTHON_WORKERS": "2"}, "--workers=1", "-workers=1"),
    (("gevent", 3), "engine = 'gevent'; workers = 3", {"KONG_PYTHON_WORKERS": "2"}, "", ""),
    (("gevent", 2), "", {"KONG_PYTHON_ENGINE": "gevent", "KONG_PYTHON_WORKERS": "2"}, "", ""),
]

StartKind = Callable[..., Served]


@pytest.fixture
def start_kind(start: Start, tmp_path: Path) -> StartKind:
    """Start the server of a folder, or of a file."""
    folder = tmp_path / "plugins"
    folder.mkdir()

    def begin(kind: str, text: str, *options: str, **environment: str) -> Served:
        plugin = folder / "probe.py"
        plugin.write_text(text)
        command = (PLUGINSERVER, "-d", folder) if kind == FOLDER else (plugin,)
        return start(*command, *options, **environment)

    return begin


def children(served: Served) -> int:
    pid = served.process.pid
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", [FOLDER, FILE])
def test_the_choice_of_engine_and_workers(start_kind, kind, case):
    (engine, workers), attributes, variables, of_folder, of_file = case
    options = of_folder if kind == FOLDER else of_file
    served = start_kind(kind, PLUGIN.format(attributes=attributes), *options.split(), **variables)
    kong = MsgpackKong(served.socket)
    assert kong.event(kong.start("probe"), "access")
    kong.close()
    assert (kong.made[0][1][1], children(served)) == (engine, workers)


@pytest.mark.parametrize("kind", [FOLDER, FILE])
@pytest.mark.parametrize("spelling", ["-m", "-multiprocessing", "--multiprocessing"])
def test_multiprocessing_is_a_worker_for_each_core_and_two_at_least(start_kind, kind, spelling):
    assert children(start_kind(kind, PLUGIN.format(attributes=""), spelling)) >= 2


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--workers", "0"], "'0' is not a number from 1 to 64, or auto"), (["--engine", "asyncio"], "asyncio")],
)
def test_a_wrong_option_is_refused(start_kind, options, words):
    served = start_kind(FOLDER, PLUGIN.format(attributes=""), *options)
    assert served.process.wait(DEADLINE) == 2
    assert words in served.said()


def test_a_wrong_variable_is_refused(start_kind):
    served = start_kind(FOLDER, PLUGIN.format(attributes=""), KONG_PYTHON_WORKERS="many")
    assert served.process.wait(DEADLINE) == 78
    assert "KONG_PYTHON_WORKERS is 'many'; set it to a number from 1 to 64, or auto" in served.said()


def test_plugins_of_a_folder_that_disagree(start_kind, tmp_path):
    (tmp_path / "plugins" / "other.py").write_text(PLUGIN.format(attributes="engine = 'gevent'"))
    served = start_kind(FOLDER, PLUGIN.format(attributes="engine = 'threads'; workers = 2"))
    assert children(served) == 2
    said = served.said()
    assert said.count("[warn] ") == 1
    assert "other: runs by threads in 2 worker(s), not as its module says" in said


def test_a_file_that_is_broken_when_its_workers_run_it_is_named(start_kind):
    """The first process has run it well."""
    text = "import sys\nif 'gevent.monkey' in sys.modules:\n    raise ValueError('no greenlets here')\n"
    text += PLUGIN.format(attributes="").replace("from gevent import monkey\n", "")
    served = start_kind(FILE, text, "-g")
    assert served.process.wait(DEADLINE) == 1
    said = served.said()
    assert "probe.py:3" in said
    assert "ValueError: no greenlets here" in said
    assert "Traceback" not in said


def test_a_file_keeps_its_arguments_and_its_place(start, tmp_path):
    text = PLUGIN.format(attributes="import sys, sibling; print('run', sys.argv[1:3], sibling.__file__)")
    (tmp_path / "sibling.py").write_text("")
    (tmp_path / "probe.py").write_text(text)
    said = start(sys.executable, tmp_path / "probe.py", "-g").said()  # the interpreter sets both
    assert said.count(f"run ['-g', '-p'] {tmp_path / 'sibling.py'}") == 2
