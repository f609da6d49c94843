"""A worker: a forked process that loads the plugins and serves them on the sockets of its master."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kong_pdk import logs
from kong_pdk.failure_policy import announcements
from kong_pdk.metrics.recorder import record_worker, write_all
from kong_pdk.mode import GEVENT, Mode
from kong_pdk.plugin import Plugin
from kong_pdk.server.event_record import RecordTable
from kong_pdk.server.workers.connection_channel import ConnectionChannel
from kong_pdk.server.workers.fork_hooks import STOP_SIGNALS, detach_children

if TYPE_CHECKING:
    from kong_pdk.server.server import Server
    from kong_pdk.server.workers.step_forwarding import ConnectionCounts, Peers
    from kong_pdk.wire.interface import Interface


_is_worker = False  # True while a worker runs the own file of its plugin, which must not start a server


@dataclass
class Loaded:
    """The plugins that a worker serves, and the error messages of the plugins that do not load."""

    plugins: list[Plugin] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


Load = Callable[[], Loaded]


class ReachedServer(BaseException):
    """Raised in a worker where the plugin's file would start its server.

    Not an ``Exception``, which the file might catch.
    """

    def __init__(self, checked: Callable[[], Plugin]) -> None:
        """:param checked: gives the plugin, or raises PluginError."""
        super().__init__()
        self.checked = checked


def run_as_worker() -> None:
    """Make :func:`hand_over` raise, so that the plugin's file ends where it would start its server."""
    global _is_worker
    _is_worker = True


def hand_over(checked: Callable[[], Plugin]) -> None:
    """End the plugin's file here if a worker runs it.

    :param checked: gives the plugin, or raises PluginError.
    :raises ReachedServer: a worker runs the file.
    """
    if _is_worker:
        raise ReachedServer(checked)


@dataclass
class WorkerSockets:
    """The number of a worker, and the sockets that it got from the master at the fork."""

    slot: int
    control: socket.socket
    """The control channel to the master. When the master ends, this socket is closed, and the worker ends."""
    listening: list[socket.socket]
    inbox: socket.socket
    """Receives connections of other workers (see :mod:`kong_pdk.server.workers.step_forwarding`)."""
    outboxes: list[socket.socket]
    """Lead to the inboxes of all workers, by number."""
    counts: ConnectionCounts
    held: socket.socket
    """Leads to the master, which holds a duplicate of each connection."""
    records: RecordTable
    """What the connections are at, for the master."""
    blocking: list[tuple[str, str]] = field(default_factory=list)
    """Plugins and phases that have held the loop of earlier workers."""

    def reopen(self) -> None:
        """Wrap the descriptors in new socket objects: gevent has replaced Python's socket class since the fork."""
        self.control = _reopened(self.control)
        self.listening = [_reopened(each) for each in self.listening]
        self.inbox = _reopened(self.inbox)
        self.outboxes = [_reopened(each) for each in self.outboxes]
        self.held = _reopened(self.held)

    def all(self) -> list[socket.socket]:
        return [self.control, *self.listening, self.inbox, *self.outboxes, self.held]

    def peers(self) -> Peers | None:
        """Connect to the other workers; None where there are none."""
        from kong_pdk.server.workers.step_forwarding import Peers

        return Peers(self.slot, self.inbox, self.outboxes, self.counts) if len(self.outboxes) > 1 else None


def _reopened(old: socket.socket) -> socket.socket:
    timeout = old.gettimeout()
    new = socket.socket(fileno=old.detach())
    new.settimeout(timeout)
    return new


def work(sockets: WorkerSockets, mode: Mode, load: Load, metrics: Path | None, interface: Interface) -> Server | None:
    """Serve as a worker until a signal stops it.

    :param load: loads the plugins, after the engine was started.
    :param metrics: the directory of the counter files; None to count nothing.
    :param interface: the methods that Kong has over ProtoBuf:1.
    :return: the server, which has stopped; None where no plugin could be loaded.
    """
    if mode.engine == GEVENT:
        from kong_pdk.server.engines import gevent

        gevent.patch()
    sockets.reopen()
    with contextlib.suppress(OSError, ValueError, AttributeError, io.UnsupportedOperation):  # no standard error
        faulthandler.enable(sys.stderr)  # a crash in an extension of C shows where the plugin was
    if mode.workers > 1:
        logs.name_worker(sockets.slot + 1)
    from kong_pdk.server.server import EngineOptions, Server
    from kong_pdk.server.workers.control_channel import BLOCKS, FAILED, READY, STUCK, ControlChannel

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
    engines = EngineOptions(mode.engine, sockets.blocking, lambda plugin, phase: channel.tell(BLOCKS, [plugin, phase]))
    held = ConnectionChannel(sockets.held, sockets.records)
    server = Server(
        loaded.plugins, sockets.listening, channel, sockets.peers(), interface, engines, held,
        lambda why, is_hopeless: channel.tell(STUCK, [why, is_hopeless]),
    )  # fmt: skip
    servers.append(server)
    open_sockets.append(server.sockets)
    handlers.update(server.stop_at_signals())
    timeouts = [policy.timeout for policy in server.instances.policies.values()]
    notes = announcements(loaded.plugins, os.environ)
    channel.tell(READY, [loaded.messages, notes, min(timeouts), max(timeouts)])
    try:
        server.run()
    finally:
        write_all()
    return server
