"""Forks plugin servers: a program that has imported what a master imports, so that no server imports it again.

``server_process.ForkingProcess`` runs it and speaks to it in lines of JSON on a socket; the argument is its descriptor.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import kong_pdk.cli
import kong_pdk.interface_file
import kong_pdk.packages.plugin_packages
import kong_pdk.server.command_line
import kong_pdk.server.workers.master
import kong_pdk.server.workers.worker
import kong_pdk.wire.protobuf_codec  # noqa: F401  # a master has it before it forks
from kong_pdk.packages import requirements

requirements.read(Path("/absent.txt"), None)  # keeps what it has to find out about Python and about the PDK
gc.collect()
gc.freeze()  # so that no program copies the memory of what is shared


def main(control: socket.socket) -> int:
    """Fork a program for each request, and report its end; return in the programs as well."""
    wake_reader, wake_writer = socket.socketpair()
    wake_reader.setblocking(False)
    wake_writer.setblocking(False)
    signal.set_wakeup_fd(wake_writer.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    orders = control.makefile("rb", buffering=0)
    for file in (orders, wake_reader):
        selector.register(file, selectors.EVENT_READ)
    running: set[int] = set()
    while True:
        ready = {key.fileobj for key, _ in selector.select()}
        if wake_reader in ready:
            wake_reader.recv(4096)
            for pid in list(running):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    running.remove(pid)
                    _report(control, pid, os.waitstatus_to_exitcode(status))
        if orders in ready:
            line = orders.readline()
            if not line:
                return 0
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                selector.close()
                for each in (orders, control, wake_reader, wake_writer):
                    each.close()
                _run(json.loads(line))
                return 0
            running.add(pid)
            _report(control, pid, None)


def _report(control: socket.socket, pid: int, code: int | None) -> None:
    control.sendall(json.dumps([pid, code]).encode() + b"\n")


def _run(request: dict[str, Any]) -> None:
    """Run the file of a program as ``python FILE ARGUMENTS`` does, in a session of its own."""
    os.setsid()
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(request[name], os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    program = Path(request["command"][0])
    sys.path[0] = str(program.parent)
    sys.argv[:] = request["command"]
    exec(request["before"], {})
    module = sys.modules["__main__"] = ModuleType("__main__")
    module.__file__ = str(program)
    exec(compile(program.read_bytes(), str(program), "exec", dont_inherit=True), module.__dict__)


if __name__ == "__main__":
    sys.exit(main(socket.socket(fileno=int(sys.argv[1]))))
