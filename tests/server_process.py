"""A plugin server as Kong meets it: a process of its own, in every mode."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from fake_kong import FakeKong, MsgpackKong, ProtobufKong
from waiting import DEADLINE, wait_for

MODES = {
    "threads": ("--engine", "threads", "--workers", "1"),
    "gevent": ("-g", "--workers", "1"),
    "processes": ("--engine", "threads", "--workers", "2"),
    "gevent-processes": ("-g", "--workers", "2"),
}
ONE = [name for name in MODES if "processes" not in name]
PAIR, OTHER_PAIR = ["threads", "gevent-processes"], ["gevent", "processes"]
"""Both engines, and both one worker and several: enough for a test that depends on only one of the two."""
SEVERAL = [name for name in MODES if "processes" in name]


class ForkingProcess:
    """The process that forks servers; see ``forking_process.py``."""

    def __init__(self) -> None:
        self._control, other = socket.socketpair()
        self._lines = self._control.makefile("rb", buffering=0)
        self._ended: dict[int, int] = {}
        script, number = Path(__file__).with_name("forking_process.py"), other.fileno()
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(number)], stdin=subprocess.DEVNULL, env={}, pass_fds=[number]
        )
        other.close()
        atexit.register(self.close)

    def close(self) -> None:
        """End the process, and with it the servers that still run."""
        self._lines.close()
        self._control.close()
        self._process.wait(DEADLINE)

    def fork(self, arguments: list[str], environment: Mapping[str, str], log: Path, before: str) -> int:
        """Fork a server; return the server's process."""
        request = {"arguments": arguments, "environment": environment, "log": str(log), "before": before}
        self._control.sendall(json.dumps(request).encode() + b"\n")
        while True:
            pid, code = json.loads(self._lines.readline())
            if code is None:
                return int(pid)
            self._ended[pid] = code

    def wait(self, pid: int, seconds: float) -> int | None:
        """Wait for the end of a server; return the exit code, None where the server still runs."""
        deadline = time.monotonic() + seconds
        while pid not in self._ended:
            if not select.select([self._control], [], [], max(deadline - time.monotonic(), 0.0))[0]:
                return None
            ended, code = json.loads(self._lines.readline())
            self._ended[ended] = code
        return self._ended[pid]


forking_process = functools.cache(ForkingProcess)


class ForkedServer:
    """A server of the forking process, with the methods of ``subprocess.Popen`` that the tests use."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path, before: str) -> None:
        self._parent = forking_process()
        self.pid = self._parent.fork(arguments, environment, log, before)

    def poll(self) -> int | None:
        return self._parent.wait(self.pid, 0.0)

    def wait(self, timeout: float = DEADLINE) -> int:
        code = self._parent.wait(self.pid, timeout)
        assert code is not None, f"process {self.pid} still runs"
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Served:
    """A plugin server in a process of its own."""

    def __init__(
        self, process: subprocess.Popen[bytes] | ForkedServer, socket: Path, log: Path, plugin: Path, workers: int
    ) -> None:
        self.process = process
        self.socket = socket
        self.log = log
        self.plugin = plugin
        self.workers = workers
        self._opened: list[FakeKong] = []

    def said(self) -> str:
        return self.log.read_text("utf-8")

    def wait_for_log(self, text: str) -> str:
        wait_for(lambda: text in self.said(), self.said)
        return self.said()

    def pid_of_a_worker(self) -> int:
        """The process that answers a new connection."""
        kong = MsgpackKong(self.socket)
        try:
            return int(kong.ask("plugin.GetStatus")["Pid"])
        finally:
            kong.close()

    def pids(self) -> set[int]:
        """The processes of all workers."""
        seen: set[int] = set()

        def all_seen() -> bool:
            seen.add(self.pid_of_a_worker())
            return len(seen) >= self.workers

        wait_for(all_seen, self.said)
        return seen

    def connect_to(self, pid: int) -> MsgpackKong:
        """Connect to one worker, over MsgPack:1; closed at the end."""

        def connected() -> MsgpackKong | None:
            kong = MsgpackKong(self.socket)
            self._opened.append(kong)
            return kong if kong.ask("plugin.GetStatus")["Pid"] == pid else None

        kong = wait_for(connected, self.said)
        assert kong is not None
        return kong

    def end(self) -> None:
        """Kill the server, with the processes that the plugin left."""
        for kong in self._opened:
            kong.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)


Serve = Callable[..., Served]


def serving(tmp_path: Path, mode: str, before: str = "") -> Iterator[Serve]:
    """Yield the function that serves a plugin, the text of its file, in a mode; end the servers.

    :param before: code that the master runs before it starts, such as one that sets smaller limits.
    """
    running: list[Served] = []

    def start(text: str, *options: str, **environment: str) -> Served:
        folder = tmp_path / "plugins"
        folder.mkdir()
        plugin = folder / "probe.py"
        plugin.write_text(text)
        arguments = ["-d", str(folder), "-p", str(tmp_path), *MODES[mode], "--plugin", "probe", "--socket-name", "s"]
        log = tmp_path / "log"
        log.touch()
        process = _start([*arguments, *options], environment, log, before)
        served = Served(process, tmp_path / "s", log, plugin, int(MODES[mode][-1]))
        running.append(served)
        wait_for(lambda: served.socket.exists() or process.poll() is not None, served.said)
        return served

    yield start
    for served in running:
        served.end()


def _start(
    arguments: list[str], environment: dict[str, str], log: Path, before: str
) -> subprocess.Popen[bytes] | ForkedServer:
    """Fork a server; start a new interpreter where the environment has variables that are read only at its start."""
    if not any(name.startswith(("PYTHON", "LC_")) for name in environment):
        return ForkedServer(arguments, environment, log, before)
    assert not before
    with log.open("w") as output:
        command = [sys.executable, "-m", "kong_pdk.server", *arguments]
        return subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)


def connecting(kind: type[FakeKong]) -> Iterator[Callable[[Served], FakeKong]]:
    """Yield the function that connects to a server over a protocol; close the connections."""
    opened: list[FakeKong] = []

    def open(served: Served) -> FakeKong:
        kong = kind(served.socket)
        opened.append(kong)
        return kong

    yield open
    for kong in opened:
        kong.close()


PROTOCOLS: list[type[FakeKong]] = [ProtobufKong, MsgpackKong]
