from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from kong_pdk.plugin import Inspection, inspect
from process_states import is_alive
from waiting import wait_for

PLUGIN = """
class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        pass
"""


@pytest.fixture(autouse=True)
def no_faulthandler():
    """pytest's own handler would print a traceback for each intended crash."""
    faulthandler.disable()
    yield
    faulthandler.enable()


def open_files() -> list[int]:
    gc.collect()
    return [number for number in range(4096) if is_open(number)]


def children() -> set[str]:
    """Give the children of this process, zombies included."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def messages(inspection: Inspection, folder: Path) -> list[str]:
    return [str(problem).replace(f"{folder}/", "") for problem in inspection.problems]


def test_twenty_plugins(tmp_path, write):
    for number in range(20):
        write(f"p{number:02}.py", f"priority = {number}\n" + PLUGIN)
    inspection = inspect(tmp_path)
    assert inspection.problems == []
    assert [(plugin.name, plugin.priority) for plugin in inspection.plugins] == [(f"p{n:02}", n) for n in range(20)]


def test_the_description_of_a_plugin(tmp_path, write):
    file = write("hello.py", "Schema = ({'a': {'type': 'string'}},)\nversion = '1.2.3'\nlua_style = False\n" + PLUGIN)
    [plugin] = inspect(tmp_path).plugins
    assert (plugin.name, plugin.file, plugin.version) == ("hello", file, "1.2.3")
    assert (plugin.phases, plugin.schema, plugin.lua_style) == (("access",), ({"a": {"type": "string"}},), False)


def test_no_plugin_code_runs_in_the_caller(tmp_path, write, capfd):
    write("hello.py", "import os, sys\nsys.hello = 1\nprint('printed')\nos.system('echo shouted')\n" + PLUGIN)
    path, modules = list(sys.path), set(sys.modules)
    assert len(inspect(tmp_path).plugins) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert sorted(captured.err.split()) == ["printed", "shouted"]
    assert not hasattr(sys, "hello")
    assert sys.path == path
    assert set(sys.modules) == modules


def test_nothing_appears_in_the_folder(tmp_path, write):
    write("one/plugin.py", "import helpers\n" + PLUGIN)
    write("one/helpers.py", "")
    inspect(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["helpers.py", "one", "plugin.py"]


def test_problems_of_finding_and_loading_are_listed_together(tmp_path, write):
    write("a.py", "class Plugin(\n")
    write("b.py", "import no_such_module\n" + PLUGIN)
    write("c.py", "priority = 1.5\nversion = 1\n" + PLUGIN)
    write("cors.py")
    write("good.py")
    inspection = inspect(tmp_path)
    assert [plugin.name for plugin in inspection.plugins] == ["good"]
    assert [(problem.plugin, problem.line) for problem in inspection.problems] == [
        ("a", 1),
        ("b", 1),
        ("c", 1),
        ("c", 2),
        ("cors", None),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import os\nos._exit(3)\n", "hello.py: import ends the process (exit code 3); remove the call of os._exit"),
        ("import os\nos._exit(0)\n", "hello.py: import ends the process (exit code 0); remove the call of os._exit"),
        ("import sys\nsys.exit(3)\n", "hello.py:2: import ends the process: sys.exit(3)"),
        ("import os\nos.abort()\n", "hello.py: import crashes the process (SIGABRT); find the library"),
        ("import os\nos.kill(os.getpid(), 9)\n", "hello.py: import crashes the process (SIGKILL)"),
        ("import os\nos.closerange(3, 4096)\nos._exit(5)\n", "hello.py: import ends the process (exit code 5)"),
        ("raise KeyboardInterrupt\n", "hello.py: import ends the process (exit code 70)"),
        ("input()\n", "hello.py:1: import raises EOFError"),
    ],
)
def test_imports_that_end_the_process(tmp_path, write, text, message):
    write("hello.py", text + PLUGIN)
    write("other.py")
    inspection = inspect(tmp_path)
    assert [plugin.name for plugin in inspection.plugins] == ["other"]
    [found] = messages(inspection, tmp_path)
    assert found.startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "import time\nwhile True: time.sleep(3600)\n",
        "while True: pass\n",
        "import os, time\nos.closerange(3, 4096)\nwhile True: time.sleep(3600)\n",
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(3600)\n",
    ],
)
def test_an_import_that_hangs(tmp_path, write, text):
    write("hello.py", f"import os\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n" + text + PLUGIN)
    write("other.py")
    inspection = inspect(tmp_path, timeout=1)
    assert [plugin.name for plugin in inspection.plugins] == ["other"]
    assert messages(inspection, tmp_path) == [
        "hello.py: import did not end within 1 s; do not wait during the import; wait in Plugin.__init__"
    ]
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_threads_and_processes_of_an_import_are_not_waited_for(tmp_path, write):
    pid = tmp_path / "pid"
    text = (
        "import subprocess, sys, threading\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        f"child = subprocess.Popen(['sleep', '3600'])\nopen({str(pid)!r}, 'w').write(str(child.pid))\n"
    )
    write("hello.py", text + PLUGIN)
    assert [plugin.name for plugin in inspect(tmp_path).plugins] == ["hello"]
    wait_for(lambda: not is_alive(int(pid.read_text())))


def test_a_process_that_keeps_the_pipe_open_is_not_waited_for(tmp_path, write):
    write("hello.py", "import os, time\nif os.fork() == 0:\n    time.sleep(3600)\n" + PLUGIN)
    begun = time.monotonic()
    assert [plugin.name for plugin in inspect(tmp_path, timeout=600).plugins] == ["hello"]
    assert time.monotonic() - begun < 300


def test_no_child_and_no_file_is_left(tmp_path, write):
    write("good.py")
    write("crash.py", "import os\nos.abort()\n" + PLUGIN)
    write("end.py", "import os\nos._exit(1)\n" + PLUGIN)
    write("hang.py", "import time\ntime.sleep(3600)\n" + PLUGIN)
    write("broken.py", "1 / 0\n" + PLUGIN)
    before = open_files(), children()
    inspect(tmp_path, timeout=1)
    assert (open_files(), children()) == before


def test_buffered_output_is_written_once(tmp_path, write, capfd):
    write("hello.py")
    with os.fdopen(os.dup(1), "w", buffering=8192) as buffered:
        before, sys.stdout = sys.stdout, buffered
        try:
            buffered.write("once")
            inspect(tmp_path)
        finally:
            sys.stdout = before
    assert capfd.readouterr().out == "once"


def test_signal_handlers_of_the_caller_are_kept(tmp_path, write):
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        write("hello.py", "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n" + PLUGIN)
        [message] = messages(inspect(tmp_path), tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "import crashes the process (SIGTERM)" in message
    assert received == []


def test_a_caller_that_ignores_its_children(tmp_path, write):
    """With SIGCHLD ignored the kernel reaps the child: there is no status, and no error either."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        write("good.py")
        write("end.py", "import os\nos._exit(1)\n" + PLUGIN)
        inspection = inspect(tmp_path, timeout=5)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert [plugin.name for plugin in inspection.plugins] == ["good"]
    assert messages(inspection, tmp_path) == ["end.py: import ends the process; remove the call of os._exit"]


def test_a_result_larger_than_the_pipe(tmp_path, write):
    write("hello.py", "Schema = [{f'field_{n}': {'type': 'string'}} for n in range(20_000)]\n" + PLUGIN)
    [plugin] = inspect(tmp_path).plugins
    assert len(plugin.schema) == 20_000


def test_an_endless_result_is_cut(tmp_path, write):
    write("hello.py", "Schema = [{'a': {'type': 'string', 'examples': ['x' * 10_000_000]}}]\n" + PLUGIN)
    assert messages(inspect(tmp_path), tmp_path) == ["hello.py: the schema is too large; make it smaller"]


def test_a_failed_fork(tmp_path, write, monkeypatch):
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    write("one.py")
    write("two.py")
    before = open_files()
    monkeypatch.setattr(os, "fork", fork)
    found = messages(inspect(tmp_path), tmp_path)
    assert found == [
        f"{name}.py: plugin cannot be loaded in a process of its own (Resource temporarily unavailable); "
        "allow more processes and open files"
        for name in ("one", "two")
    ]
    assert open_files() == before


def test_a_file_without_a_plugin(tmp_path, write):
    write("one/names.py", "x = 1\n")
    write("one/plugin.py", "from names import *\n")
    assert inspect(tmp_path) == Inspection([], [])


def test_missing_folder(tmp_path):
    [message] = messages(inspect(tmp_path / "none"), tmp_path)
    assert message.startswith("none: plugin folder does not exist")


def test_output_of_a_plugin_is_passed_on_under_its_name(tmp_path, capfd):
    """Both outputs, also the last ones of a plugin that ends its process; no file stays open."""
    head = "import os\nos.write(1, b'on output\\n')\nos.write(2, b'on error\\n')\n"
    (tmp_path / "speaks.py").write_text(head + PLUGIN)
    (tmp_path / "dies.py").write_text("import os\nos.write(1, b'last words')\nos._exit(3)\n" + PLUGIN)
    (tmp_path / "silent.py").write_text("import os\nos.close(1)\nos.close(2)\n" + PLUGIN)
    before = open_files()
    printed: dict[str, list[bytes]] = {}

    found = inspect(tmp_path, printed=lambda name, data: printed.setdefault(name, []).append(data))

    assert b"".join(printed["speaks"]) == b"on output\non error\n"
    assert printed["dies"] == [b"last words", b""]
    assert printed["silent"] == [b""]
    assert printed["speaks"][-1] == b""
    assert [plugin.name for plugin in found.plugins] == ["silent", "speaks"]
    assert capfd.readouterr() == ("", "")
    assert open_files() == before


def test_a_plugin_that_prints_without_end_exceeds_the_time(tmp_path):
    (tmp_path / "chatty.py").write_text("import os\nwhile True:\n    os.write(1, b'x' * 1000)\n" + PLUGIN)
    taken = 0

    def take(name: str, data: bytes) -> None:
        nonlocal taken
        taken += len(data)

    found = inspect(tmp_path, timeout=0.2, printed=take)

    assert "did not end within 0.2 s" in messages(found, tmp_path)[0]
    assert taken > 1000
