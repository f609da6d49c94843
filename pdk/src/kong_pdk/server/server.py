"""The plugin server: listens, gives each connection a thread, and ends in good order."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kong_pdk.logs import NOTICE
from kong_pdk.plugin import Plugin
from kong_pdk.server import protobuf
from kong_pdk.server.activity import Activity
from kong_pdk.server.instances import Instances
from kong_pdk.server.listener import Listener
from kong_pdk.server.msgpack import MsgpackServer
from kong_pdk.server.parent import watch_parent

_log = logging.getLogger(__name__)
_SNIFF = 4  # bytes that tell the protocols apart
_DRAIN_SECONDS = 3.0
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Server:
    """Serves plugins on unix sockets, both protocols on each: the first bytes of a connection tell which."""

    def __init__(self, plugins: Iterable[Plugin], paths: Iterable[Path]) -> None:
        """Bind the sockets; connections are accepted from now on and served by :meth:`run`.

        :raises ListenError: a socket cannot be made.
        """
        self._instances = Instances(plugins)
        self._activity = Activity()
        self._msgpack = MsgpackServer(self._instances, self._activity)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._connections: set[socket.socket] = set()
        self._stopping = False
        self.listeners: list[Listener] = []
        try:
            for path in paths:
                self.listeners.append(Listener(path))
        except BaseException:
            self._close()
            raise

    def stop(self) -> None:
        """Make :meth:`run` return. May be called from signal handlers and other threads, more than once."""
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"x")

    def close_in_child(self) -> None:
        """Close a forked child's copies: Kong must see the end of what this process closes, or leaves behind."""
        for listener in self.listeners:
            listener.socket.close()
        for connection in [*self._connections, self._wake_reader, self._wake_writer]:
            connection.close()

    def run(self) -> bool:
        """Serve until :meth:`stop`; then let the events under way end, for some seconds.

        :return: whether they have.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_reader, selectors.EVENT_READ)
            for listener in self.listeners:
                listener.socket.setblocking(False)
                selector.register(listener.socket, selectors.EVENT_READ)
            while not self._serve_ready(selector):
                pass
        self._close()
        self._stopping = True
        self._abandon_if_alone()
        if self._activity.wait_idle(_DRAIN_SECONDS):
            return True
        _log.warning("stopped with handlers still running after %g seconds", _DRAIN_SECONDS)
        return False

    def _abandon_if_alone(self) -> None:
        """Let go, at the end, the handlers that wait for a Kong that has left."""
        if self._stopping and not self._connections:
            self._msgpack.abandon_events()

    def _serve_ready(self, selector: selectors.BaseSelector) -> bool:
        for key, _ in selector.select():
            if key.fileobj is self._wake_reader:
                return True
            assert isinstance(key.fileobj, socket.socket)
            self._accept(key.fileobj)
        return False

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except BlockingIOError:
            return
        except OSError as error:  # out of file descriptors: those that wait stay in the backlog
            _log.error("cannot accept a connection: %s", error.strerror)
            time.sleep(0.1)
            return
        connection.setblocking(True)
        self._connections.add(connection)
        try:
            threading.Thread(target=self._serve, args=(connection,), name="connection", daemon=True).start()
        except RuntimeError as error:
            _log.error("cannot start a thread for a connection: %s", error)
            time.sleep(0.1)  # Kong tries again as soon as it is closed
            self._forget(connection)

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
                protobuf.serve(connection, received, self._instances, self._activity)
        except OSError:
            pass  # the peer is gone
        except Exception:  # noqa: BLE001  # the other connections are to go on
            _log.exception("a connection ended by a defect of the plugin server")
        finally:
            self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        self._connections.discard(connection)
        connection.close()
        self._abandon_if_alone()

    def _close(self) -> None:
        for listener in self.listeners:
            listener.close()
        self._wake_reader.close()
        self._wake_writer.close()


def _is_msgpack(start: bytes) -> bool:
    """Tell a MessagePack-RPC request (an array of four that begins with 0) from the length of a frame.

    Behind these two stands an id of one byte (up to 0x7f) and the first one of a string (from 0xa0 on), or an id of
    several bytes, the first of them from 0xcc on. A frame's length has these values from 13 MB on.
    """
    return start[:2] == b"\x94\x00" and (start[2] >= 0xCC or start[3] >= 0xA0)


def serve(plugins: Iterable[Plugin], paths: Iterable[Path]) -> bool:
    """Serve plugins until a signal says stop, or the process that started this one ends.

    :return: whether all handlers have come to their end.
    :raises ListenError: a socket cannot be made.
    """
    server = Server(plugins, paths)
    before = {number: signal.signal(number, lambda *_: server.stop()) for number in _STOP_SIGNALS}
    _part_from_children(server, before)
    watch_parent(server.stop)
    for listener in server.listeners:
        _log.log(NOTICE, "listening on %s", listener.path)
    idle = server.run()
    _log.log(NOTICE, "stopped")
    return idle


def _part_from_children(server: Server, handlers: Mapping[signal.Signals, Any]) -> None:
    """Make processes that a plugin forks their own: what stops one of them must not stop the server.

    :param handlers: what they do at a signal.
    """
    forking = threading.local()

    def hold() -> None:  # a signal is to wait until the child has its own handlers
        forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, forking.mask)

    def in_child() -> None:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        server.close_in_child()
        release()

    os.register_at_fork(before=hold, after_in_parent=release, after_in_child=in_child)
