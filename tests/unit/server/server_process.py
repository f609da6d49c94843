"""A plugin server as Kong meets it: a process of its own, in every mode."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from fake_kong import DEADLINE, FakeKong, MsgpackKong, ProtobufKong

Value = TypeVar("Value")

MODES = {
    "threads": ("--engine", "threads", "--workers", "1"),
    "gevent": ("-g", "--workers", "1"),
    "processes": ("--engine", "threads", "--workers", "2"),
    "gevent-processes": ("-g", "--workers", "2"),
}
ONE = [name for name in MODES if "processes" not in name]
SEVERAL = [name for name in MODES if "processes" in name]


def wait_for(condition: Callable[[], Value], what: Callable[[], object] = str, seconds: float = DEADLINE) -> Value:
    """Wait until a condition gives something true, and give it; fail with what ``what`` gives."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.01)
    return value


class Served:
    """A plugin server in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], socket: Path, log: Path, plugin: Path, workers: int) -> None:
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
        """Kill what is left, with the processes that the plugin left."""
        for kong in self._opened:
            kong.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)


Serve = Callable[..., Served]


SERVER = (sys.executable, "-m", "kong_pdk.server")


def serving(tmp_path: Path, mode: str, program: Sequence[str] = SERVER) -> Iterator[Serve]:
    """Give what serves a plugin, the text of its file, in a mode; end what was served."""
    running: list[Served] = []

    def start(text: str, *options: str, **environment: str) -> Served:
        folder = tmp_path / "plugins"
        folder.mkdir()
        plugin = folder / "probe.py"
        plugin.write_text(text)
        command = [*program, "-d", str(folder), "-p", str(tmp_path), *MODES[mode]]
        log = tmp_path / "log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [*command, "--plugin", "probe", "--socket-name", "s", *options],
                stdout=output, stderr=output, env=environment, start_new_session=True,
            )  # fmt: skip
        served = Served(process, tmp_path / "s", log, plugin, int(MODES[mode][-1]))
        running.append(served)
        wait_for(lambda: served.socket.exists() or process.poll() is not None, served.said)
        return served

    yield start
    for served in running:
        served.end()


def connecting(kind: type[FakeKong]) -> Iterator[Callable[[Served], FakeKong]]:
    """Give what connects to a server over a protocol; close what was connected."""
    opened: list[FakeKong] = []

    def open(served: Served) -> FakeKong:
        kong = kind(served.socket)
        opened.append(kong)
        return kong

    yield open
    for kong in opened:
        kong.close()


PROTOCOLS: list[type[FakeKong]] = [ProtobufKong, MsgpackKong]
