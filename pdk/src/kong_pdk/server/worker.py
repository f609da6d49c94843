"""A worker: a forked process that loads the plugins and serves them on the sockets that its master listens on."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kong_pdk import logs
from kong_pdk.metrics.recorder import record_worker, write_all
from kong_pdk.mode import Mode
from kong_pdk.server import engine
from kong_pdk.server.forks import STOP_SIGNALS, part_from_children
from kong_pdk.server.loaded import Load
from kong_pdk.server.seat import Seat
from kong_pdk.wire.interface import Interface

if TYPE_CHECKING:
    from kong_pdk.server.server import Server


def work(seat: Seat, mode: Mode, load: Load, metrics: Path | None, interface: Interface) -> Server | None:
    """Serve as a worker until told to stop.

    :param load: loads the plugins, after the engine was started.
    :param metrics: the directory of the files to count in; None where nothing is counted.
    :param interface: what Kong can be asked for over ProtoBuf:1.
    :return: the server, which has stopped; None where there was nothing to serve.
    """
    _begin(seat, mode)
    from kong_pdk.server.line import FAILED, READY, Line
    from kong_pdk.server.server import Server

    held: list[Callable[[], list[socket.socket]]] = [seat.sockets]
    handlers: dict[signal.Signals, Any] = dict.fromkeys(STOP_SIGNALS, signal.SIG_DFL)
    part_from_children(lambda: [each for give in held for each in give()], handlers)
    servers: list[Server] = []

    def dropped(id: int) -> None:
        for server in servers:
            server.instances.discard(id)

    def closed(id: int) -> None:
        for server in servers:
            server.instances.note_closed(id)

    line = Line(seat.line, dropped, closed)
    line.listen()
    loaded = load()
    logs.restore()
    if not loaded.plugins:
        line.tell(FAILED, loaded.sentences)
        return None
    if metrics is not None:
        record_worker(metrics, {plugin.name: plugin.phases for plugin in loaded.plugins}, seat.slot, os.getppid())
    server = Server(loaded.plugins, seat.listening, line, seat.peers(), interface)
    servers.append(server)
    held.append(server.sockets)
    handlers.update(server.stop_at_signals())
    line.tell(READY, loaded.sentences)
    try:
        server.run()
    finally:
        write_all()
    return server


def _begin(seat: Seat, mode: Mode) -> None:
    engine.start(mode.engine)
    seat.renew()
    if mode.workers > 1:
        logs.name_worker(seat.slot + 1)
