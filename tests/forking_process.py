"""Forks plugin servers: a program that has imported what a master imports, so that no server imports it again.

``server_process.ForkingProcess`` runs it and speaks to it in lines of JSON on a socket; the argument is its descriptor.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import kong_pdk.interface_file
import kong_pdk.server.master
import kong_pdk.server.worker
import kong_pdk.wire.protobuf_codec  # noqa: F401  # a master has it before it forks
from kong_pdk.server.command_line import folder_main


def main(control: socket.socket) -> int:
    """Fork a server for each request, and report the server's end; return in the servers as well."""
    wake_reader, wake_writer = socket.socketpair()
    wake_reader.setblocking(False)
    wake_writer.setblocking(False)
    signal.set_wakeup_fd(wake_writer.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    requests = control.makefile("rb", buffering=0)
    for file in (requests, wake_reader):
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
        if requests in ready:
            line = requests.readline()
            if not line:
                return 0
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                selector.close()
                for each in (requests, control, wake_reader, wake_writer):
                    each.close()
                return _serve(json.loads(line))
            running.add(pid)
            _report(control, pid, None)


def _report(control: socket.socket, pid: int, code: int | None) -> None:
    control.sendall(json.dumps([pid, code]).encode() + b"\n")


def _serve(request: dict[str, Any]) -> int:
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0] = str(Path.cwd())
    sys.argv[1:] = request["arguments"]
    exec(request["before"], {})
    return folder_main()


if __name__ == "__main__":
    sys.exit(main(socket.socket(fileno=int(sys.argv[1]))))
