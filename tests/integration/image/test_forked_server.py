"""Plugin servers that are forks of process 1."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_kong import ProtobufKong
from integration.image.container import Container
from kong_pdk.image import forked_server
from kong_pdk.image.run_directory import RunDirectory
from unit.image.conftest import GOOD_PLUGIN
from waiting import wait_for

Start = Callable[..., Container]


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def _processes(pid: int) -> list[int]:
    """Give a process and those below it."""
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [pid, *(each for child in children for each in _processes(child))]


def _proportional_mebibytes(pid: int) -> float:
    match = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) / 1024


def _imports(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


PLUGIN = """
import atexit
import os
import resource
import sys
import tempfile

atexit.register(print, "the plugin's atexit")
NOTES = open(os.environ["NOTES"], "w")
NOTES.write("what the end of an interpreter writes")


class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        print("to standard output")
        kong.response.set_header("x-state", [
            sys.argv[0].rpartition("/")[2], os.environ["SUPERVISOR_PROCESS_NAME"], str(tempfile.tempdir),
            str(limit[0] == limit[1]),
        ])
"""


def test_a_server_is_as_if_it_were_a_program_of_its_own(start: Start, folder: Path, run: RunDirectory) -> None:
    (folder / "good.py").write_text(PLUGIN)
    notes = folder.parent / "notes"
    container = start(NOTES=str(notes))
    container.wait_for("GET / 200")
    master = container.pid_of("good")
    assert "kong-python-pluginserver -d " in _command(master)
    assert "--plugin good" in _command(master)
    assert Path(f"/proc/{master}/exe").samefile(f"/proc/{container.process.pid}/exe")
    kong = ProtobufKong(run.socket("good"))
    assert kong.event(kong.start("good"), "access")
    state = ["kong-python-pluginserver", "good", "None", "True"]
    assert kong.made == [("kong.response.set_header", ["x-state", state])]
    kong.close()
    container.wait_for("[info] good: to standard output")
    assert container.end(signal.SIGQUIT) == 0
    assert "[info] good: the plugin's atexit" in container.log
    assert notes.read_text() == "what the end of an interpreter writes"
    assert "error]" not in container.log


def test_a_server_on_gevent_is_a_program_of_its_own(start: Start, folder: Path) -> None:
    """gevent must replace parts of Python before anything else uses them."""
    (folder / "other.py").write_text(f'engine = "gevent"\n{GOOD_PLUGIN}')
    container = start()
    container.wait_for("GET / 200")
    forked, other = _processes(container.pid_of("good")), _processes(container.pid_of("other"))
    assert not any("/gevent/" in _imports(pid) for pid in forked)
    assert any("/gevent/" in _imports(pid) for pid in other)
    assert container.end(signal.SIGQUIT) == 0


@pytest.mark.parametrize(("name", "is_forked"), [("protobuf", False), ("msgpack", False), ("requests", True)])
def test_a_plugin_with_its_own_version_of_what_we_import_is_a_program_of_its_own(tmp_path, name, is_forked):
    (tmp_path / f"{name}-9.0.0.dist-info").mkdir()
    command = ["/bin/kong-python-pluginserver", "-d", "/plugins", "--packages", str(tmp_path)]
    assert forked_server.can_be_forked(command) is is_forked


def test_a_wrong_option_ends_with_its_own_status(start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin is gone when its server is started again, which says so each time, and the others go on."""
    (folder / "other.py").write_text(GOOD_PLUGIN)
    container = start()
    container.wait_for("GET / 200")
    (folder / "other.py").unlink()
    os.kill(container.pid_of("other"), signal.SIGKILL)
    container.wait_for("exited: other (exit status 1; not expected)")
    assert "there is no plugin other that works" in container.log
    assert Path(f"/proc/{container.pid_of('good')}").exists()
    assert container.end(signal.SIGQUIT) == 0


@pytest.mark.parametrize("stopping", [signal.SIGTERM, signal.SIGKILL])
def test_servers_do_not_keep_each_others_files(
    start: Start, folder: Path, run: RunDirectory, stopping: signal.Signals
) -> None:
    """When a server ends, Kong sees the end of its connections, although others were forked from the same process."""
    (folder / "other.py").write_text(GOOD_PLUGIN)
    container = start()
    container.wait_for("GET / 200")
    kong = ProtobufKong(run.socket("good"))
    kong.start("good")
    for pid in reversed(_processes(container.pid_of("good"))):
        os.kill(pid, stopping)
    assert kong.socket.recv(1) == b""
    kong.close()
    container.wait_for("listening on", count=3)
    assert container.end(signal.SIGQUIT) == 0


def test_a_further_plugin_takes_little_memory(start: Start, folder: Path) -> None:
    """A program of its own takes about 26 MiB: an interpreter, and twice what a server has imported."""

    def serve(count: int) -> float:
        for number in range(count):
            (folder / f"plugin{number}.py").write_text(GOOD_PLUGIN)
        container = start()
        container.wait_for("GET / 200")
        servers = [pid for number in range(count) for pid in _processes(container.pid_of(f"plugin{number}"))]
        wait_for(lambda: len(servers) == 2 * count)
        total = sum(map(_proportional_mebibytes, [container.process.pid, *servers]))
        assert container.end(signal.SIGQUIT) == 0
        return total

    few, many = serve(1), serve(8)
    assert (many - few) / 7 < 16
