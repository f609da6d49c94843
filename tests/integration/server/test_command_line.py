"""The command lines of plugin servers: of a folder, of a file that serves itself, and of wrappers.

Each has a test with an interpreter of its own, as Kong and people start it; the others are forked.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fake_kong import MsgpackKong, ProtobufKong
from kong_pdk import __version__
from process_states import pause
from programs import PLUGINSERVER
from server_process import BARE, Served, run
from waiting import DEADLINE, wait_for

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
MODULE = (sys.executable, "-m", "kong_pdk.server")
FOLDER_SOCKET = "python_pluginserver.sock"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one plugin, which is a server of its own too."""
    made = tmp_path / "plugins"
    made.mkdir()
    (made / "my-plugin.py").write_text(PLUGIN % ", Schema")
    return made


@pytest.mark.parametrize("spelling", ["--version", "-version"])
def test_it_says_its_version(spelling):
    done = run(PLUGINSERVER, spelling)
    assert (done.returncode, done.stdout) == (0, f"kong-python {__version__}\n")


@pytest.mark.parametrize("spelling", ["--dump", "-dump", "--dump-all-plugins", "-dump-all-plugins"])
def test_a_dump_of_the_folder_is_json_alone(folder, spelling):
    done = run(PLUGINSERVER, "-d", folder, spelling)
    assert done.returncode == 0
    (plugin,) = json.loads(done.stdout)
    assert (plugin["Name"], plugin["Version"], plugin["Priority"]) == ("my-plugin", "0.2.0", 7)
    assert plugin["Phases"] == ["access"]
    assert plugin["Schema"]["fields"] == [{"config": {"type": "record", "fields": [{"message": {"type": "string"}}]}}]
    assert "noise on standard output" in done.stderr


@pytest.mark.parametrize("spelling", ["--dump-plugin-info", "-dump-plugin-info"])
def test_a_dump_of_one_plugin(folder, spelling):
    (folder / "other.py").write_text(PLUGIN % "")
    done = run(PLUGINSERVER, "--plugins-directory", folder, spelling, "other", "--protocol", "protobuf")
    dumped = json.loads(done.stdout)
    assert dumped["Protocol"] == "ProtoBuf:1"
    assert [plugin["Name"] for plugin in dumped["Plugins"]] == ["other"]


def test_a_dump_of_a_missing_plugin_names_it(folder):
    done = run(PLUGINSERVER, "-d", folder, "--dump-plugin-info", "nosuch")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nosuch" in done.stderr
    assert str(folder) in done.stderr


@pytest.mark.parametrize("spelling", ["--dump", "-dump"])
@pytest.mark.parametrize("schema", [", Schema", ""])
def test_a_dump_of_a_file_that_serves_itself(folder, spelling, schema):
    """Without a Schema argument the module's counts; prints of the file at its import are not part of the dump."""
    file = folder / "my-plugin.py"
    file.write_text(PLUGIN % schema)
    done = run(file, spelling)
    (plugin,) = json.loads(done.stdout)
    assert "noise on standard output" in done.stderr
    assert (plugin["Name"], plugin["Priority"]) == ("my-plugin", 7)
    assert plugin["Schema"]["fields"][0]["config"]["fields"] == [{"message": {"type": "string"}}]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_dump_by_an_interpreter_of_its_own(folder, kind):
    done = run(*([sys.executable, folder / "my-plugin.py"] if kind == "file" else [*MODULE, "-d", folder]), "--dump")
    assert done.returncode == 0
    assert [plugin["Name"] for plugin in json.loads(done.stdout)] == ["my-plugin"]
    assert "noise on standard output" in done.stderr


def test_a_file_that_serves_itself_listens_where_kong_looks(folder, start, tmp_path):
    served = start(sys.executable, folder / "my-plugin.py", socket="my-plugin.sock")
    for name in ("my-plugin.socket", "my-plugin.sock"):
        kong = MsgpackKong(tmp_path / name)
        assert kong.event(kong.start("my-plugin"), "access", {"kong.request.get_method": "GET"})
        assert kong.made[-1] == ("kong.response.set_header", ["x-result", "('GET', None)"])
        kong.close()
    assert served.stop() == 0
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
    done = run(file, "--dump")
    (plugin,) = json.loads(done.stdout)
    assert (plugin["Name"], plugin["Version"], plugin["Priority"]) == ("AI-Powered-Gateway", "0.2.0", 12)
    assert plugin["Schema"]["fields"][0]["config"]["fields"] == [{"admin_url": {"type": "string"}}]
    assert done.stderr == ""


def test_it_listens_where_kong_looks_for_the_lower_case_name(tmp_path, start):
    file = tmp_path / "gateway.py"
    file.write_text(CAPITALS % "")
    served = start(file, socket="AI-Powered-Gateway.sock")
    for name in ("ai-powered-gateway", "AI-Powered-Gateway"):
        for end in ("socket", "sock"):
            kong = MsgpackKong(tmp_path / f"{name}.{end}")
            assert kong.event(kong.start("AI-Powered-Gateway"), "access", {})
            kong.close()
    assert served.stop() == 0
    assert not list(tmp_path.glob("*.sock*"))


def test_a_folder_with_names_in_capitals(tmp_path, start):
    (tmp_path / "AI-Powered.py").write_text(CAPITALS.partition("\nif __name__")[0])
    dumped = run(PLUGINSERVER, "-d", tmp_path, "--dump-plugin-info", "AI-Powered")
    assert [plugin["Name"] for plugin in json.loads(dumped.stdout)] == ["AI-Powered"]
    kong = MsgpackKong(start(PLUGINSERVER, "-d", tmp_path, "--plugin", "AI-Powered").socket)
    assert kong.event(kong.start("AI-Powered"), "access", {})
    kong.close()


@pytest.mark.parametrize("options", [["--dump"], ["--dump-plugin-info", "own"]])
def test_a_dump_names_on_standard_error_the_values_that_are_ignored(tmp_path, options):
    text = CAPITALS.replace("PRIORITY = 12", "").replace("SCHEMA = ", "OWN = ") % ", VERSION, 1000, OWN"
    (tmp_path / "own.py").write_text(text)
    done = run(PLUGINSERVER, "-d", tmp_path, *options)
    (plugin,) = json.loads(done.stdout)
    assert plugin["Priority"] == 0
    assert f"[warn] {'own' if len(options) > 1 else 'pluginserver'}: {tmp_path}/own.py:18: priority" in done.stderr
    assert "and Schema are set only below" in done.stderr
    assert "write at the top level of the module: priority = 1000; Schema = OWN" in done.stderr


def test_a_server_that_is_started_by_hand_names_the_values_that_are_ignored(tmp_path, start):
    (tmp_path / "own.py").write_text(CAPITALS.replace("PRIORITY = 12", "priority = 1\nPRIORITY = 12"))
    served = start(PLUGINSERVER, "-d", tmp_path)
    assert served.said().count("own.py:4: PRIORITY is 12 and priority 1, and priority counts") == 1


@pytest.mark.parametrize("call", ["cli.start_server()", "import sys; sys.exit(cli.start_server())"])
def test_a_wrapper_of_the_folder_server(folder, tmp_path, call):
    wrapper = tmp_path / "pluginserver.py"
    wrapper.write_text(f"from kong_pdk import cli\n{call}\n")
    done = run(sys.executable, wrapper, "--plugins-directory", folder, "--dump-all-plugins")
    assert (done.returncode, [plugin["Name"] for plugin in json.loads(done.stdout)]) == (0, ["my-plugin"])
    failed = run(sys.executable, wrapper, "-d", tmp_path / "nowhere", "--dump")
    assert (failed.returncode, failed.stdout) == (1, "")


def test_a_broken_file_that_serves_itself_names_the_mistake(folder):
    file = folder / "my-plugin.py"
    file.write_text((PLUGIN % ", [5]").replace("def access", "def acces"))
    done = run(file, "--dump")
    assert done.returncode == 1
    assert "acces" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("options", [("--kong-prefix", "--socket-name"), ("-kong-prefix", "-socket-name")])
def test_a_folder_is_served(folder, tmp_path, options):
    prefix, name = options
    process = subprocess.Popen([*MODULE, "-d", folder, prefix, tmp_path, name, "x.sock"], env=BARE)
    try:
        wait_for(lambda: (tmp_path / "x.sock").exists() or process.poll() is not None)
        kong = ProtobufKong(tmp_path / "x.sock")
        assert kong.event(kong.start("my-plugin"), "access", {"kong.request.get_method": "GET"})
        kong.close()
    finally:
        process.terminate()
        process.wait(DEADLINE)


def processes(served: Served) -> list[int]:
    """The process that was started, and its workers."""
    pid = served.process.pid
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split())]


@pytest.mark.parametrize("mode", [(), ("--workers", "2")], ids=["one process", "workers"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_how_many_connections_may_wait(folder, start, kind, mode):
    command = [folder / "my-plugin.py"] if kind == "file" else [PLUGINSERVER, "-d", folder]
    served = start(*command, "--listen-queue-size", "2", *mode)
    stopped = processes(served)
    for pid in stopped:  # so that no process accepts
        pause(pid)
    waiting = []
    try:
        with pytest.raises(BlockingIOError):
            for _ in range(10):
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(str(served.socket))
        assert len(waiting) - 1 == 3  # Linux lets one more wait than it is told to
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        for each in waiting:
            each.close()


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_an_invalid_queue_size_is_refused(folder, number):
    done = run(PLUGINSERVER, "-d", folder, f"--listen-queue-size={number}")
    assert done.returncode == 2
    assert f"{number!r} is not a number of connections" in done.stderr


def test_values_instead_of_tuples(folder, start):
    kong = ProtobufKong(start(PLUGINSERVER, "-d", folder, "--no-lua-style").socket)
    assert kong.event(kong.start("my-plugin"), "access", {"kong.request.get_method": "GET"})
    assert kong.made[-1] == ("kong.response.set_header", ["x-result", "'GET'"])
    kong.close()


def test_a_broken_plugin_is_named_and_the_others_are_served(folder, start):
    (folder / "broken.py").write_text("class Plugin:\n    def acces(self, kong): pass\n")
    served = start(PLUGINSERVER, "-d", folder)
    assert any("broken.py:2" in line and "did you mean" in line for line in served.said().splitlines())
    kong = ProtobufKong(served.socket)
    assert kong.start("my-plugin")
    kong.close()


def test_one_plugin_that_was_asked_for_and_is_broken_ends_the_server(folder, tmp_path):
    (folder / "broken.py").write_text("import nosuchmodule\nclass Plugin:\n    def access(self, kong): pass\n")
    done = run(PLUGINSERVER, "-d", folder, "--plugin", "broken", "-p", tmp_path)
    assert done.returncode == 1
    assert "broken.py:1" in done.stderr
    assert "nosuchmodule" in done.stderr


def test_a_missing_prefix_is_named(folder, tmp_path):
    done = run(PLUGINSERVER, "-d", folder, "-p", tmp_path / "nowhere")
    assert done.returncode == 1
    assert "make the directory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_server_ends_with_0_when_told_to(folder, start, number):
    served = start(PLUGINSERVER, "-d", folder, socket=FOLDER_SOCKET)
    assert served.stop(number) == 0
    assert not served.socket.exists()


def test_a_server_ends_when_its_kong_has_ended(folder, tmp_path):
    """A worker of Kong that crashes leaves its servers behind."""
    reader, writer = os.pipe()
    command = [*MODULE, "-d", str(folder), "-p", str(tmp_path)]
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
    assert not (tmp_path / FOLDER_SOCKET).exists()


def test_an_unknown_option_is_refused():
    done = run(PLUGINSERVER, "--nosuch")
    assert done.returncode == 2
    assert "--nosuch" in done.stderr
