"""A worker: a forked process that loads the plugins and serves them on the sockets that its master listens on."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kong_pdk import logs
from kong_pdk.metrics.recorder import record_worker, write_all
from kong_pdk.mode import Mode
from kong_pdk.plugin import Plugin
from kong_pdk.server import engine
from kong_pdk.server.fork_hooks import STOP_SIGNALS, part_from_children

if TYPE_CHECKING:
    from kong_pdk.server.server import Server
    from kong_pdk.server.step_forwarding import Peers
    from kong_pdk.wire.interface import Interface


@dataclass
class Loaded:
    """The plugins that a worker serves, and what is to be said of those that do not load."""

    plugins: list[Plugin] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)


Load = Callable[[], Loaded]


@dataclass
class Seat:
    """The place of one worker: its number, and the sockets that the master made before the fork."""

    slot: int
    line: socket.socket
    """To the master; its end is the master's end."""
    listening: list[socket.socket]
    inbox: socket.socket
    outboxes: list[socket.socket]

    def renew(self) -> None:
        """Make the sockets anew, of the class that an engine may have put in the place of Python's own."""
        self.line = _renewed(self.line)
        self.listening = [_renewed(each) for each in self.listening]
        self.inbox = _renewed(self.inbox)
        self.outboxes = [_renewed(each) for each in self.outboxes]

    def sockets(self) -> list[socket.socket]:
        """List all of them."""
        return [self.line, *self.listening, self.inbox, *self.outboxes]

    def peers(self) -> Peers | None:
        """Give the way to the other workers; None where there are none."""
        from kong_pdk.server.step_forwarding import Peers

        return Peers(self.slot, self.inbox, self.outboxes) if len(self.outboxes) > 1 else None


def _renewed(old: socket.socket) -> socket.socket:
    timeout = old.gettimeout()
    new = socket.socket(fileno=old.detach())
    new.settimeout(timeout)
    return new


def work(seat: Seat, mode: Mode, load: Load, metrics: Path | None, interface: Interface) -> Server | None:
    """Serve as a worker until told to stop.

    :param load: loads the plugins, after the engine was started.
    :param metrics: the directory of the files to count in; None where nothing is counted.
    :param interface: what Kong can be asked for over ProtoBuf:1.
    :return: the server, which has stopped; None where there was nothing to serve.
    """
    _begin(seat, mode)
    from kong_pdk.server.control_channel import FAILED, READY, Line
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
