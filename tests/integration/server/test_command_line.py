"""The command lines of plugin servers, run as Kong and people run them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_kong import MsgpackKong, ProtobufKong
from kong_pdk import __version__
from process_states import pause
from waiting import DEADLINE

PLUGIN = """
import os
import kong_pdk.pdk.kong as kong

Schema = ({"message": {"type": "string"}},)
version = "0.2.0"
priority = 7

print("noise on standard output")


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong: kong.kong):
        result = kong.request.get_method()
        kong.response.set_header("x-result", repr(result))


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server
    start_dedicated_server("my-plugin", Plugin, version, priority%s)
"""
SERVER = [sys.executable, "-m", "kong_pdk.server"]
BARE = {"TZ": ""}  # the environment of the servers that Kong starts

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one plugin, which is a server of its own too."""
    made = tmp_path / "plugins"
    made.mkdir()
    (made / "my-plugin.py").write_text(PLUGIN % ", Schema")
    return made


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE, env=BARE)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a server and wait until it listens; gives the process."""
    running: list[subprocess.Popen[str]] = []

    def begin(*command: str, sockets: int = 1) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=BARE)
        running.append(process)
        lines = []
        while sum("listening on" in line for line in lines) < sockets:
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        process.said = lines
        return process

    yield begin
    for process in running:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("spelling", ["--version", "-version"])
def test_it_says_its_version(spelling):
    done = run(*SERVER, spelling)
    assert (done.returncode, done.stdout) == (0, f"kong-python {__version__}\n")


@pytest.mark.parametrize("spelling", ["--dump", "-dump", "--dump-all-plugins", "-dump-all-plugins"])
def test_a_dump_of_the_folder_is_json_alone(folder, spelling):
    done = run(*SERVER, "-d", str(folder), spelling)
    assert done.returncode == 0
    (plugin,) = json.loads(done.stdout)
    assert (plugin["Name"], plugin["Version"], plugin["Priority"]) == ("my-plugin", "0.2.0", 7)
    assert plugin["Phases"] == ["access"]
    assert plugin["Schema"]["fields"] == [{"config": {"type": "record", "fields": [{"message": {"type": "string"}}]}}]
    assert "noise on standard output" in done.stderr


@pytest.mark.parametrize("spelling", ["--dump-plugin-info", "-dump-plugin-info"])
def test_a_dump_of_one_plugin(folder, spelling):
    (folder / "other.py").write_text(PLUGIN % "")
    done = run(*SERVER, "--plugins-directory", str(folder), spelling, "other", "--protocol", "protobuf")
    dumped = json.loads(done.stdout)
    assert dumped["Protocol"] == "ProtoBuf:1"
    assert [plugin["Name"] for plugin in dumped["Plugins"]] == ["other"]


def test_a_dump_of_a_missing_plugin_names_it(folder):
    done = run(*SERVER, "-d", str(folder), "--dump-plugin-info", "nosuch")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nosuch" in done.stderr
    assert str(folder) in done.stderr


@pytest.mark.parametrize("spelling", ["--dump", "-dump"])
@pytest.mark.parametrize("schema", [", Schema", ""])
def test_a_dump_of_a_file_that_serves_itself(folder, spelling, schema):
    """Without a Schema argument the module's counts; prints of the file at its import are not part of the dump."""
    file = folder / "my-plugin.py"
    file.write_text(PLUGIN % schema)
    done = run(sys.executable, str(file), spelling)
    (plugin,) = json.loads(done.stdout)
    assert "noise on standard output" in done.stderr
    assert (plugin["Name"], plugin["Priority"]) == ("my-plugin", 7)
    assert plugin["Schema"]["fields"][0]["config"]["fields"] == [{"message": {"type": "string"}}]


def test_a_file_that_serves_itself_listens_where_kong_looks(folder, start, tmp_path):
    process = start(sys.executable, str(folder / "my-plugin.py"), "-p", str(tmp_path), sockets=2)
    for name in ("my-plugin.socket", "my-plugin.sock"):
        kong = MsgpackKong(tmp_path / name)
        assert kong.event(kong.start("my-plugin"), "access", {"kong.request.get_method": "GET"})
        assert kong.made[-1] == ("kong.response.set_header", ["x-result", "('GET', None)"])
        kong.close()
    process.terminate()
    assert process.wait(DEADLINE) == 0
    assert not list(tmp_path.glob("*.sock*"))


CAPITALS = """
VERSION = "0.2.0"
PRIORITY = 12
SCHEMA = ({"admin_url": {"type": "string"}},)
PLUGIN_NAME = "AI-Powered-Gateway"


class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        kong.response.set_header("x-result", "served")


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server
    start_dedicated_server(PLUGIN_NAME, Plugin%s)
"""


@pytest.mark.parametrize("given", ["", ", VERSION, PRIORITY, SCHEMA", ", priority=PRIORITY"])
def test_a_file_that_serves_itself_under_a_name_with_capitals(tmp_path, given):
    file = tmp_path / "gateway.py"
    file.write_text(CAPITALS % given)
    done = run(sys.executable, str(file), "--dump")
    (plugin,) = json.loads(done.stdout)
    assert (plugin["Name"], plugin["Version"], plugin["Priority"]) == ("AI-Powered-Gateway", "0.2.0", 12)
    assert plugin["Schema"]["fields"][0]["config"]["fields"] == [{"admin_url": {"type": "string"}}]
    assert done.stderr == ""


def test_it_listens_where_kong_looks_for_the_lower_case_name(tmp_path, start):
    file = tmp_path / "gateway.py"
    file.write_text(CAPITALS % "")
    process = start(sys.executable, str(file), "-p", str(tmp_path), sockets=4)
    for name in ("ai-powered-gateway", "AI-Powered-Gateway"):
        for end in ("socket", "sock"):
            kong = MsgpackKong(tmp_path / f"{name}.{end}")
            assert kong.event(kong.start("AI-Powered-Gateway"), "access", {})
            kong.close()
    process.terminate()
    assert process.wait(DEADLINE) == 0
    assert not list(tmp_path.glob("*.sock*"))


def test_a_folder_with_names_in_capitals(tmp_path, start):
    (tmp_path / "AI-Powered.py").write_text(CAPITALS.partition("\nif __name__")[0])
    dumped = run(*SERVER, "-d", str(tmp_path), "--dump-plugin-info", "AI-Powered")
    assert [plugin["Name"] for plugin in json.loads(dumped.stdout)] == ["AI-Powered"]
    start(*SERVER, "-d", str(tmp_path), "-p", str(tmp_path), "--plugin", "AI-Powered")
    kong = MsgpackKong(tmp_path / "python_pluginserver.sock")
    assert kong.event(kong.start("AI-Powered"), "access", {})
    kong.close()


@pytest.mark.parametrize("options", [["--dump"], ["--dump-plugin-info", "own"]])
def test_a_dump_names_on_standard_error_the_values_that_are_ignored(tmp_path, options):
    text = CAPITALS.replace("PRIORITY = 12", "").replace("SCHEMA = ", "OWN = ") % ", VERSION, 1000, OWN"
    (tmp_path / "own.py").write_text(text)
    done = run(*SERVER, "-d", str(tmp_path), *options)
    (plugin,) = json.loads(done.stdout)
    assert plugin["Priority"] == 0
    assert f"[warn] {'own' if len(options) > 1 else 'pluginserver'}: {tmp_path}/own.py:18: priority" in done.stderr
    assert "and Schema are set only below" in done.stderr
    assert "write at the top level of the module: priority = 1000; Schema = OWN" in done.stderr


def test_a_server_that_is_started_by_hand_names_the_values_that_are_ignored(tmp_path, start):
    (tmp_path / "own.py").write_text(CAPITALS.replace("PRIORITY = 12", "priority = 1\nPRIORITY = 12"))
    process = start(*SERVER, "-d", str(tmp_path), "-p", str(tmp_path))
    assert sum("own.py:4: PRIORITY is 12 and priority 1, and priority counts" in line for line in process.said) == 1


@pytest.mark.parametrize("call", ["cli.start_server()", "import sys; sys.exit(cli.start_server())"])
def test_a_wrapper_of_the_folder_server(folder, tmp_path, call):
    wrapper = tmp_path / "pluginserver.py"
    wrapper.write_text(f"from kong_pdk import cli\n{call}\n")
    done = run(sys.executable, str(wrapper), "--plugins-directory", str(folder), "--dump-all-plugins")
    assert (done.returncode, [plugin["Name"] for plugin in json.loads(done.stdout)]) == (0, ["my-plugin"])
    failed = run(sys.executable, str(wrapper), "-d", str(tmp_path / "nowhere"), "--dump")
    assert (failed.returncode, failed.stdout) == (1, "")


def test_a_broken_file_that_serves_itself_names_the_mistake(folder):
    file = folder / "my-plugin.py"
    file.write_text((PLUGIN % ", [5]").replace("def access", "def acces"))
    done = run(sys.executable, str(file), "--dump")
    assert done.returncode == 1
    assert "acces" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--socket-name", "-socket-name"])
def test_a_folder_is_served(folder, start, tmp_path, option):
    start(*SERVER, "-d", str(folder), "--kong-prefix", str(tmp_path), option, "x.sock")
    kong = ProtobufKong(tmp_path / "x.sock")
    assert kong.event(kong.start("my-plugin"), "access", {"kong.request.get_method": "GET"})
    kong.close()


def of_server(process: subprocess.Popen[str]) -> list[int]:
    """The processes of a server: the one that was started, and its workers."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("utf-8")
    return [process.pid, *map(int, children.split())]


@pytest.mark.parametrize("mode", [(), ("--workers", "2")], ids=["one process", "workers"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_how_many_connections_may_wait(folder, start, tmp_path, kind, mode):
    command = [sys.executable, str(folder / "my-plugin.py")] if kind == "file" else [*SERVER, "-d", str(folder)]
    queue = ("--listen-queue-size", "2")
    process = start(*command, "-p", str(tmp_path), "--socket-name", "s", *queue, *mode)
    stopped = of_server(process)
    for pid in stopped:  # so that no process accepts
        pause(pid)
    waiting = []
    try:
        with pytest.raises(BlockingIOError):
            for _ in range(10):
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(str(tmp_path / "s"))
        assert len(waiting) - 1 == 3  # Linux lets one more wait than it is told to
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        for each in waiting:
            each.close()


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_an_invalid_queue_size_is_refused(folder, number):
    done = run(*SERVER, "-d", str(folder), f"--listen-queue-size={number}")
    assert done.returncode == 2
    assert f"{number!r} is not a number of connections" in done.stderr


def test_values_instead_of_tuples(folder, start, tmp_path):
    start(*SERVER, "-d", str(folder), "-p", str(tmp_path), "--no-lua-style")
    kong = ProtobufKong(tmp_path / "python_pluginserver.sock")
    assert kong.event(kong.start("my-plugin"), "access", {"kong.request.get_method": "GET"})
    assert kong.made[-1] == ("kong.response.set_header", ["x-result", "'GET'"])
    kong.close()


def test_a_broken_plugin_is_named_and_the_others_are_served(folder, start, tmp_path):
    (folder / "broken.py").write_text("class Plugin:\n    def acces(self, kong): pass\n")
    process = start(*SERVER, "-d", str(folder), "-p", str(tmp_path))
    assert any("broken.py:2" in line and "did you mean" in line for line in process.said)
    kong = ProtobufKong(tmp_path / "python_pluginserver.sock")
    assert kong.start("my-plugin")
    kong.close()


def test_one_plugin_that_was_asked_for_and_is_broken_ends_the_server(folder, tmp_path):
    (folder / "broken.py").write_text("import nosuchmodule\nclass Plugin:\n    def access(self, kong): pass\n")
    done = run(*SERVER, "-d", str(folder), "--plugin", "broken", "-p", str(tmp_path))
    assert done.returncode == 1
    assert "broken.py:1" in done.stderr
    assert "nosuchmodule" in done.stderr


def test_a_missing_prefix_is_named(folder, tmp_path):
    done = run(*SERVER, "-d", str(folder), "-p", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert "make the directory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_server_ends_with_0_when_told_to(folder, start, tmp_path, number):
    process = start(*SERVER, "-d", str(folder), "-p", str(tmp_path))
    process.send_signal(number)
    assert process.wait(DEADLINE) == 0
    assert not (tmp_path / "python_pluginserver.sock").exists()


def test_a_server_ends_when_its_kong_has_ended(folder, tmp_path):
    """A worker of Kong that crashes leaves its servers behind."""
    reader, writer = os.pipe()
    command = [*SERVER, "-d", str(folder), "-p", str(tmp_path)]
    parent = subprocess.Popen(
        [sys.executable, "-c", "import signal, subprocess; signal.signal(signal.SIGHUP, signal.SIG_DFL);"  # not nohup's
         f"p = subprocess.Popen({command!r}); p.wait()"],
        stderr=writer, stdout=subprocess.DEVNULL, env=BARE,
    )  # fmt: skip
    os.close(writer)
    with os.fdopen(reader) as said:
        line = said.readline()
        while "listening on" not in line:
            assert line
            line = said.readline()
        parent.kill()
        parent.wait()
        assert "stopped" in said.read()  # to the end of file: no process has the pipe open
    assert not (tmp_path / "python_pluginserver.sock").exists()


def test_an_unknown_option_is_refused():
    done = run(*SERVER, "--nosuch")
    assert done.returncode == 2
    assert "--nosuch" in done.stderr
