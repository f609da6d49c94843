"""Plugin servers as Kong meets them: processes of their own, in every mode.

Most of the time that a server takes is the start of Python. So a command that begins with a program of Python is
forked by a process that has the imports; one that begins with ``sys.executable`` starts an interpreter.
"""

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
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from fake_kong import FakeKong, MsgpackKong, ProtobufKong
from programs import PLUGINSERVER
from waiting import DEADLINE, wait_for

MODES = {
    "loop": ("--engine", "loop", "--workers", "1"),
    "threads": ("--engine", "threads", "--workers", "1"),
    "gevent": ("-g", "--workers", "1"),
    "loop-processes": ("--engine", "loop", "--workers", "2"),
    "processes": ("--engine", "threads", "--workers", "2"),
    "gevent-processes": ("-g", "--workers", "2"),
}
ONE = [name for name in MODES if "processes" not in name]
SEVERAL = [name for name in MODES if "processes" in name]

# Enough for a test that does not need all modes: each has all engines, one worker and several, and both protocols.
PAIR: dict[str, type[FakeKong]] = {"loop": ProtobufKong, "threads": ProtobufKong, "gevent-processes": MsgpackKong}
OTHER_PAIR: dict[str, type[FakeKong]] = {
    "gevent": ProtobufKong,
    "processes": MsgpackKong,
    "loop-processes": MsgpackKong,
}

BARE = {"TZ": ""}
"""The environment of the servers that Kong starts."""

Word = str | Path


class ForkingProcess:
    """The process that forks programs; see ``forking_process.py``."""

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
        """End the process, and with it the programs that still run."""
        self._lines.close()
        self._control.close()
        self._process.wait(DEADLINE)

    def fork(
        self, command: Sequence[Word], environment: Mapping[str, str], stdout: Path, stderr: Path, before: str
    ) -> int:
        """Fork a program; return its process."""
        request = {
            "command": [*map(str, command)], "environment": environment, "stdout": str(stdout), "stderr": str(stderr),
            "before": before,
        }  # fmt: skip
        self._control.sendall(json.dumps(request).encode() + b"\n")
        while True:
            pid, code = json.loads(self._lines.readline())
            if code is None:
                return int(pid)
            self._ended[pid] = code

    def wait(self, pid: int, seconds: float) -> int | None:
        """Wait for the end of a program; return the exit code, None where it still runs."""
        deadline = time.monotonic() + seconds
        while pid not in self._ended:
            if not select.select([self._control], [], [], max(deadline - time.monotonic(), 0.0))[0]:
                return None
            ended, code = json.loads(self._lines.readline())
            self._ended[ended] = code
        return self._ended[pid]


forking_process = functools.cache(ForkingProcess)


class Forked:
    """A program of the forking process, with the methods of ``subprocess.Popen`` that the tests use."""

    def __init__(
        self, command: Sequence[Word], environment: Mapping[str, str], stdout: Path, stderr: Path, before: str = ""
    ) -> None:
        self._parent = forking_process()
        self.pid = self._parent.fork(command, environment, stdout, stderr, before)

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


Process = subprocess.Popen[bytes] | Forked


def _start(
    command: Sequence[Word], environment: Mapping[str, str], stdout: Path, stderr: Path, before: str = ""
) -> Process:
    """Start a program; a new interpreter also where the environment has variables that are read only at its start."""
    for file in (stdout, stderr):
        file.touch()
    environment = BARE | dict(environment)
    is_interpreter = command[0] == sys.executable
    if not is_interpreter and not any(name.startswith(("PYTHON", "LC_")) for name in environment):
        return Forked(command, environment, stdout, stderr, before)
    assert not before
    words = command if is_interpreter else [sys.executable, *command]
    with stdout.open("ab") as output, stderr.open("ab") as errors:
        return subprocess.Popen(words, stdout=output, stderr=errors, env=environment, start_new_session=True)


def run(*command: Word, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        process = _start(command, environment, stdout, stderr)
        try:
            code = process.wait(DEADLINE)
        finally:
            process.kill()
        return subprocess.CompletedProcess(command, code, stdout.read_text("utf-8"), stderr.read_text("utf-8"))


def output_of(*command: Word, **environment: str) -> str:
    """Run a program to its end, which must be a success; return its standard output."""
    done = run(*command, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Served:
    """A plugin server in a process of its own."""

    def __init__(self, process: Process, socket: Path, log: Path) -> None:
        self.process = process
        self.socket = socket
        self.log = log
        self.workers = 1
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


Start = Callable[..., Served]
Serve = Callable[..., Served]


@contextlib.contextmanager
def starting(folder: Path) -> Iterator[Start]:
    """Give the function that starts a plugin server and waits until it listens or has ended; end the servers.

    ``folder`` is Kong's prefix for them, and has the log.
    """
    running: list[Served] = []

    def start(*command: Word, socket: str = "", before: str = "", **environment: str) -> Served:
        """:param socket: the socket that appears last, if the command does not choose the name.

        :param before: code that the master runs before it starts, such as one that sets smaller limits.
        """
        log = folder / "log"
        name = () if socket else ("--socket-name", "s")
        process = _start([*command, "-p", folder, *name], environment, log, log, before)
        served = Served(process, folder / (socket or "s"), log)
        running.append(served)
        wait_for(lambda: served.socket.exists() or process.poll() is not None, served.said)
        return served

    try:
        yield start
    finally:
        for served in running:
            served.end()


@contextlib.contextmanager
def serving(folder: Path, mode: str) -> Iterator[Serve]:
    """Give the function that serves a plugin, the text of its file, in a mode; end the servers."""
    with starting(folder) as start:

        def serve(text: str, *options: Word, before: str = "", **environment: str) -> Served:
            plugins = folder / "plugins"
            plugins.mkdir()
            (plugins / "probe.py").write_text(text)
            command = (PLUGINSERVER, "-d", plugins, "--plugin", "probe", *MODES[mode])
            served = start(*command, *options, before=before, **environment)
            served.workers = int(MODES[mode][-1])
            return served

        yield serve


Connect = Callable[[Served], FakeKong]


@contextlib.contextmanager
def connecting(kind: type[FakeKong]) -> Iterator[Connect]:
    """Give the function that connects to a server over a protocol; close the connections."""
    opened: list[FakeKong] = []

    def open(served: Served) -> FakeKong:
        kong = kind(served.socket)
        opened.append(kong)
        return kong

    try:
        yield open
    finally:
        for kong in opened:
            kong.close()
