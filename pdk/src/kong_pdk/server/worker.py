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
from kong_pdk.server.fork_hooks import STOP_SIGNALS, detach_children

if TYPE_CHECKING:
    from kong_pdk.server.server import Server
    from kong_pdk.server.step_forwarding import Peers
    from kong_pdk.wire.interface import Interface


@dataclass
class Loaded:
    """The plugins that a worker serves, and what is to be said of those that do not load."""

    plugins: list[Plugin] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


Load = Callable[[], Loaded]


@dataclass
class WorkerSockets:
    """The place of one worker: its number, and the sockets that the master made before the fork."""

    slot: int
    control: socket.socket
    """To the master; its end is the master's end."""
    listening: list[socket.socket]
    inbox: socket.socket
    outboxes: list[socket.socket]

    def reopen(self) -> None:
        """Make the sockets anew, of the class that an engine may have put in the place of Python's own."""
        self.control = _reopened(self.control)
        self.listening = [_reopened(each) for each in self.listening]
        self.inbox = _reopened(self.inbox)
        self.outboxes = [_reopened(each) for each in self.outboxes]

    def all(self) -> list[socket.socket]:
        """List the sockets."""
        return [self.control, *self.listening, self.inbox, *self.outboxes]

    def peers(self) -> Peers | None:
        """Give the way to the other workers; None where there are none."""
        from kong_pdk.server.step_forwarding import Peers

        return Peers(self.slot, self.inbox, self.outboxes) if len(self.outboxes) > 1 else None


def _reopened(old: socket.socket) -> socket.socket:
    timeout = old.gettimeout()
    new = socket.socket(fileno=old.detach())
    new.settimeout(timeout)
    return new


def work(sockets: WorkerSockets, mode: Mode, load: Load, metrics: Path | None, interface: Interface) -> Server | None:
    """Serve as a worker until told to stop.

    :param load: loads the plugins, after the engine was started.
    :param metrics: the directory of the files to count in; None where nothing is counted.
    :param interface: what Kong can be asked for over ProtoBuf:1.
    :return: the server, which has stopped; None where there was nothing to serve.
    """
    engine.start(mode.engine)
    sockets.reopen()
    if mode.workers > 1:
        logs.name_worker(sockets.slot + 1)
    from kong_pdk.server.control_channel import FAILED, READY, ControlChannel
    from kong_pdk.server.server import Server

    open_sockets: list[Callable[[], list[socket.socket]]] = [sockets.all]
    handlers: dict[signal.Signals, Any] = dict.fromkeys(STOP_SIGNALS, signal.SIG_DFL)
    detach_children(lambda: [each for list_open in open_sockets for each in list_open()], handlers)
    servers: list[Server] = []

    def dropped(id: int) -> None:
        for server in servers:
            server.instances.discard(id)

    def closed(id: int) -> None:
        for server in servers:
            server.instances.note_closed(id)

    channel = ControlChannel(sockets.control, dropped, closed)
    channel.listen()
    loaded = load()
    logs.restore()
    if not loaded.plugins:
        channel.tell(FAILED, loaded.messages)
        return None
    if metrics is not None:
        record_worker(metrics, {plugin.name: plugin.phases for plugin in loaded.plugins}, sockets.slot, os.getppid())
    server = Server(loaded.plugins, sockets.listening, channel, sockets.peers(), interface)
    servers.append(server)
    open_sockets.append(server.sockets)
    handlers.update(server.stop_at_signals())
    channel.tell(READY, loaded.messages)
    try:
        server.run()
    finally:
        write_all()
    return server
