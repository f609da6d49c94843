"""The plugin server: accepts connections, serves each on a thread, and drains its events when it stops."""

from __future__ import annotations

import contextlib
import logging
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from kong_pdk.plugin import Plugin
from kong_pdk.server import protobuf
from kong_pdk.server.activity import Activity
from kong_pdk.server.fork_hooks import STOP_SIGNALS
from kong_pdk.server.instance_store import InstanceStore
from kong_pdk.server.instances import Instances
from kong_pdk.server.msgpack import MsgpackServer
from kong_pdk.server.step_forwarding import Peers
from kong_pdk.wire.interface import STOCK, Interface

_log = logging.getLogger(__name__)
_WAKES = 4096
_SNIFF = 4  # bytes that tell the protocols apart
_PAUSE_SECONDS = 0.1
DRAIN_SECONDS = 3.0
"""How long open events may take once the server is told to stop."""


class Server:
    """Serves plugins on listening sockets. The first bytes of a connection tell which of the protocols it speaks."""

    def __init__(
        self,
        plugins: Iterable[Plugin],
        listening: Iterable[socket.socket],
        store: InstanceStore | None = None,
        peers: Peers | None = None,
        interface: Interface = STOCK,
    ) -> None:
        """:param store: shared by the workers of a server; None for a server with a single process.

        :param peers: the other workers; None where there are none.
        :param interface: the methods that Kong has over ProtoBuf:1.
        """
        self._interface = interface
        self.instances = Instances(plugins, store, self._wake)
        self.is_idle = True
        """Whether all handlers had ended when :meth:`run` returned."""
        self._activity = Activity()
        self._msgpack = MsgpackServer(self.instances, self._activity, peers)
        self._listening = list(listening)
        self._peers = peers
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)
        self._accepts = False
        self._accepts_from: float | None = None
        """When connections are accepted again after threads or file descriptors ran out; None while all is well."""
        self._is_short = False
        self._waiting: deque[socket.socket] = deque()
        """Accepted connections for which no thread could be started yet."""
        self._connections: set[socket.socket] = set()
        self._connections_of_kong: set[socket.socket] = set()
        self._told_to_stop = False
        self._takes_signals = False
        self._stopping = False

    def stop(self) -> None:
        """Make :meth:`run` return. Signal handlers and other threads may call it, more than once."""
        self._told_to_stop = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # the socket is full, so run() wakes up anyway, or it is closed
            self._wake_writer.send(b"x")

    def stop_at_signals(self) -> dict[signal.Signals, Any]:
        """Make :meth:`run` return at ``STOP_SIGNALS``.

        A signal also wakes the selector of :meth:`run`: otherwise a signal just before ``select`` would have no effect
        until the next connection.

        :return: the signal handlers before this call.
        """
        self._takes_signals = True
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        return {number: signal.signal(number, lambda *_: self.stop()) for number in STOP_SIGNALS}

    def sockets(self) -> list[socket.socket]:
        """List the open sockets, which a forked child must not keep: Kong must see when this process closes them."""
        held = [*self._listening, *self._connections, self._wake_reader, self._wake_writer]
        return held + (self._peers.sockets() if self._peers else [])

    def run(self) -> bool:
        """Serve until :meth:`stop`, then wait up to ``DRAIN_SECONDS`` for the open events.

        :return: whether all events have ended.
        """
        if self._peers is not None:
            threading.Thread(target=self._serve_peers, args=(self._peers,), name="peers", daemon=True).start()
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_reader, selectors.EVENT_READ)
            for listening in self._listening:
                listening.setblocking(False)
            while not self._serve_ready(selector):
                pass
        self._close()
        self._stopping = True
        self._abandon_if_alone()
        self.is_idle = self._activity.wait_idle(DRAIN_SECONDS)
        if not self.is_idle:
            _log.warning("stopped with handlers still running after %g seconds", DRAIN_SECONDS)
        return self.is_idle

    def _abandon_if_alone(self) -> None:
        """End handlers that wait for Kong, once the server is stopping and Kong has closed all connections."""
        if not self._stopping:
            return
        if self._peers is not None and not self._connections_of_kong:
            self._peers.close_idle()
        if not self._connections:
            self._msgpack.abandon_events()

    def _serve_ready(self, selector: selectors.BaseSelector) -> bool:
        pause = self.instances.look_after()
        self._begin_waiting()
        if self._accepts_from is not None:
            pause = min(pause, max(self._accepts_from - time.monotonic(), 0.0))
        self._listen(selector, self._accepts_from is None)
        for key, _ in selector.select(pause):
            if key.fileobj is self._wake_reader:
                self._wake_reader.recv(_WAKES)
                if self._told_to_stop:
                    return True
                continue  # a signal of the plugin, a signal whose handler runs next, or an instance that is due
            key.data(key.fileobj)
        return False

    def _listen(self, selector: selectors.BaseSelector, accepts: bool) -> None:
        """Start or stop accepting connections; those that this worker does not accept wait in the backlog."""
        if accepts == self._accepts:
            return
        self._accepts = accepts
        for listening in self._listening:
            if accepts:
                selector.register(listening, selectors.EVENT_READ, self._accept)
            else:
                selector.unregister(listening)

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except BlockingIOError:  # another worker has it
            return
        except OSError as error:  # out of file descriptors: connections stay in the backlog
            self._pause("cannot accept a connection: %s", error.strerror)
            return
        self._connections_of_kong.add(connection)
        self._begin(connection)

    def _serve_peers(self, peers: Peers) -> None:
        """Serve the connections of other workers, also while the server is stopping."""
        while (connection := peers.receive()) is not None:
            self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        connection.setblocking(True)
        self._connections.add(connection)
        if not self._start_thread(connection):
            self._waiting.append(connection)
            self._wake()  # this may be the thread of _serve_peers

    def _start_thread(self, connection: socket.socket) -> bool:
        try:
            threading.Thread(target=self._serve, args=(connection,), name="connection", daemon=True).start()
        except RuntimeError as error:
            self._pause("connections wait for a thread: %s", error)
            return False
        self._is_short = False
        return True

    def _pause(self, text: str, why: object) -> None:
        """Accept no connections for a moment, and log it the first time."""
        if not self._is_short:
            _log.error(text, why)
        self._is_short = True
        self._accepts_from = time.monotonic() + _PAUSE_SECONDS

    def _begin_waiting(self) -> None:
        """Serve the waiting connections once the pause is over, and accept again if a thread starts for each."""
        if self._accepts_from is not None and time.monotonic() < self._accepts_from:
            return
        while self._waiting:
            connection = self._waiting.popleft()
            if not self._start_thread(connection):
                self._waiting.appendleft(connection)
                return
        self._accepts_from = None

    def _serve(self, connection: socket.socket) -> None:
        try:
            received = b""
            while len(received) < _SNIFF:
                data = connection.recv(_SNIFF - len(received))
                if not data:
                    return
                received += data
            if _is_msgpack(received):
                self._msgpack.serve(connection, received)
            else:
                protobuf.serve(connection, received, self.instances, self._activity, self._interface)
        except OSError:
            pass  # the peer is gone
        except Exception:  # noqa: BLE001  # other connections must go on
            _log.exception("a connection ended by a defect of the plugin server")
        finally:
            self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        self._connections.discard(connection)
        self._connections_of_kong.discard(connection)
        connection.close()
        self._abandon_if_alone()

    def _close(self) -> None:
        if self._takes_signals:
            signal.set_wakeup_fd(-1)
        for each in [*self._listening, self._wake_reader, self._wake_writer]:
            each.close()
        while self._waiting:
            self._forget(self._waiting.popleft())


def _is_msgpack(start: bytes) -> bool:
    """Tell a MessagePack-RPC request from the length of a frame of ProtoBuf:1.

    A request is an array of four elements (0x94) that begins with 0. An id follows: one byte up to 0x7f and then the
    first byte of a string (from 0xa0 on), or several bytes, the first of them from 0xcc on. Read as the length of a
    frame, these bytes mean 13 MB or more.
    """
    return start[:2] == b"\x94\x00" and (start[2] >= 0xCC or start[3] >= 0xA0)
