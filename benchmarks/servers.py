"""The servers that are compared, each a process of its own, and what the kernel counts for them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kong_pdk.wire import msgpack_codec
from kong_pdk.wire.calls import InstanceStatus, StartInstance
from kong_pdk.wire.interface import extend
from kong_pdk.wire.kong_side import Answered, MsgpackSide, ProtobufSide

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0
STOP_SECONDS = 10.0
STOCK_INTERFACE = ROOT / "docker/embedded/files/usr/local/kong/include/kong/pluginsocket.proto"
OURS, PEER, GO, FLOOR = "kong-python", "kong-pdk", "go-pdk", "floor"
ASYNCIO = "asyncio"


class BenchError(Exception):
    """A server or the load generator does not work; the message says which, and what it wrote."""


@dataclass(frozen=True)
class Kind:
    """A server as it is started: the product, the protocol, the engine by the product's own name, the workers."""

    server: str
    protocol: str
    engine: str = "default"
    workers: int = 1

    def __str__(self) -> str:
        workers = f", {self.workers} workers" if self.workers > 1 else ""
        return f"{self.server} {self.protocol} {self.engine}{workers}"


@dataclass(frozen=True)
class Programs:
    """The programs that were built or installed for the benchmark."""

    load: Path
    floor: Path
    peer: Path
    go: Path
    """Is there only where it was asked for."""


PEER_OPTIONS: Mapping[str, tuple[str, ...]] = {"default": (), "gevent": ("-g",), "multiprocessing": ("-m",)}


class Server:
    """A running server, with one plugin."""

    def __init__(self, kind: Kind, process: subprocess.Popen[bytes], path: Path, log: Path, plugin: str) -> None:
        self.kind = kind
        self.path = path
        self._process = process
        self._log = log
        self._plugin = plugin

    @property
    def log(self) -> str:
        """The last lines that it wrote."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-8:])

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> None:
        """Wait until it accepts connections.

        :raises BenchError: it ended, or takes too long.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(self.path)) == 0:
                    return
            if self.has_ended or time.monotonic() > deadline:
                raise BenchError(f"{self.kind} does not start:\n{self.log}")
            time.sleep(0.02)

    def start_instance(self, number: int = 0) -> int:
        """Start an instance, as Kong does before the first event; returns its id.

        :param number: makes the configurations of several instances differ.
        :raises BenchError: the server does not start it.
        """
        config = json.dumps({"__seq__": number, "__plugin_id": f"{number:032x}"})
        if self.kind.server == FLOOR:
            return 1
        start = _start_over_msgpack if self.kind.protocol == "msgpack" else _start_over_protobuf
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(START_SECONDS)
                connection.connect(str(self.path))
                return start(connection, self._plugin, config)
        except OSError as error:
            raise BenchError(f"{self.kind} starts no instance: {error}\n{self.log}") from error

    def pids(self) -> list[int]:
        """List its processes: those of its session."""
        numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [pid for pid in numbers if _session(pid) == self._process.pid]

    def cpu_seconds(self) -> float:
        """Add up what its processes have used, user and system.

        It is what ``/proc/PID/stat`` says, in nanoseconds in place of hundredths of a second.
        """
        total = 0.0
        for pid in self.pids():
            with contextlib.suppress(OSError):  # one that ends meanwhile
                total += time.clock_gettime(~pid << 3 | 2)  # as clock_getcpuclockid(3) makes it
        return total

    def switches(self) -> int:
        """Count how often its threads were given a processor."""
        lines = (line for status in self._read("task/*/status") for line in status.splitlines())
        return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)

    def _read(self, pattern: str) -> Iterator[str]:
        """Read a file of each of its processes, or several; one that ends meanwhile is left out."""
        for pid in self.pids():
            for file in Path(f"/proc/{pid}").glob(pattern):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    yield file.read_text()

    def forget_peak(self) -> None:
        """Let the peak of the memory begin anew."""
        for pid in self.pids():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_mib(self) -> float:
        """Add up the peaks of resident memory."""
        lines = (line for status in self._read("status") for line in status.splitlines())
        return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

    def stop(self) -> None:
        """End it, with all of its processes."""
        if not self.has_ended:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _start_over_msgpack(connection: socket.socket, plugin: str, config: str) -> int:
    side = MsgpackSide()
    connection.sendall(side.request(1, "plugin.StartInstance", {"Name": plugin, "Config": config}))
    while not isinstance(message := side.next(), msgpack_codec.Response):
        if message is None:
            side.feed(_received(connection))
    if message.error is not None:
        raise BenchError(f"the instance does not start: {message.error}")
    return int(message.result["Id"])


def _start_over_protobuf(connection: socket.socket, plugin: str, config: str) -> int:
    side = ProtobufSide()
    connection.sendall(side.call(1, StartInstance(plugin, config.encode())))
    while (said := side.next()) is None:
        side.feed(_received(connection))
    assert isinstance(said, Answered)
    assert isinstance(said.answer, InstanceStatus)
    return said.answer.instance_id


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise BenchError("the server closed the connection in place of starting an instance")
    return data


@contextlib.contextmanager
def running(kind: Kind, plugin: Path, programs: Programs) -> Iterator[Server]:
    """Run a server with a plugin; it ends with the context."""
    with tempfile.TemporaryDirectory(prefix="kong-python-bench-") as name:
        place = Path(name)
        folder = place / "plugins"
        folder.mkdir()
        text = plugin.read_text("utf-8")
        (folder / plugin.name).write_text(with_async_handlers(text) if kind.engine == ASYNCIO else text, "utf-8")
        interface = place / "pluginsocket.proto"
        interface.write_text(extend(STOCK_INTERFACE.read_text()))  # as the image does
        environment = {
            "PATH": os.environ["PATH"], "HOME": name, "TMPDIR": name, "KONG_PYTHON_INTERFACE_FILE": str(interface),
        }  # fmt: skip
        if kind.server == GO:  # its name tells which plugin it is
            shutil.copy(programs.go, place / plugin.stem)
        log = place / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                _command(kind, folder, place, plugin.stem, programs), env=environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        path = place / (f"{plugin.stem}.socket" if kind.server == GO else "s")
        server = Server(kind, process, path, log, plugin.stem)
        try:
            server.wait()
            yield server
        finally:
            server.stop()


def with_async_handlers(text: str) -> str:
    """Make the handlers of a plugin coroutines, which await what they call."""
    text = text.replace("    def access(", "    async def access(").replace("import time\n", "import asyncio\n")
    text = re.sub(r"\bkong\.(request|response)\.", r"await \g<0>", text)
    return text.replace("time.sleep(", "await asyncio.sleep(")


def _command(kind: Kind, folder: Path, place: Path, plugin: str, programs: Programs) -> list[str]:
    if kind.server == FLOOR:
        return [str(programs.floor), str(place / "s")]
    if kind.server == GO:
        return [str(place / plugin), "-kong-prefix", str(place)]
    shared = ["-p", str(place), "--socket-name", "s", "-d", str(folder)]
    if kind.server == PEER:
        return [str(programs.peer), *shared, *PEER_OPTIONS[kind.engine]]
    command = [sys.executable, "-m", "kong_pdk.server", *shared, "--plugin", plugin, "--workers", str(kind.workers)]
    return command if kind.engine in ("default", ASYNCIO) else [*command, "--engine", kind.engine]
