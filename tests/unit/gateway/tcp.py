"""A TCP service for the stream proxy to stand in front of, clients for it, and plugins of the stream subsystem."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from kong_pdk.gateway.entities import PluginConfig
from kong_pdk.gateway.phases import Registry
from kong_pdk.gateway.stream.routes import STREAM_PROTOCOLS, StreamSubsystem

from .conftest import DEADLINE, PythonPlugin, Running

Talk = Callable[[socket.socket], None]


def echo(connection: socket.socket) -> None:
    """Answer each piece with what it was."""
    while data := connection.recv(65536):
        connection.sendall(b"A:" + data)


def after_the_end(connection: socket.socket) -> None:
    """Answer when the client has ended its side."""
    received = b""
    while data := connection.recv(65536):
        received += data
    connection.sendall(b"all of " + received)


def once(answer: bytes) -> Talk:
    """Give one answer to the first piece, and end; what comes then is read, so that nothing is cut."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        read_to_end(connection)

    return talk


@contextlib.contextmanager
def service(talk: Talk = echo) -> Iterator[int]:
    """Serve on a free port, a thread for each connection; gives the port."""
    threads: list[threading.Thread] = []
    open_: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def one(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                talk(connection)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.settimeout(DEADLINE)
                    open_.append(connection)
                    threads.append(threading.Thread(target=one, args=(connection,)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(DEADLINE)
            for connection in open_:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(DEADLINE)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def configuration(port: int, more: str = "") -> str:
    """One TCP service with a route for whoever comes from this machine; ``more`` are fields of the service."""
    return f"""
_format_version: "3.0"
services:
- name: t
  url: tcp://127.0.0.1:{port}
{more}
  routes:
  - name: r
    protocols: [tcp]
    sources: [{{ip: 127.0.0.0/8}}]
"""


def connect(running: Running) -> socket.socket:
    """A client's connection to the stream listener."""
    connection = socket.create_connection(("127.0.0.1", running.gateway.stream_addresses[0].port), DEADLINE)
    connection.settimeout(DEADLINE)
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """All that comes. Raises ConnectionResetError where the connection was cut."""
    received = bytearray()
    while data := connection.recv(65536):
        received += data
    return bytes(received)


def use(running: Running, *plugins: PythonPlugin) -> None:
    """Run these plugins of the stream subsystem, globally."""
    configured = [PluginConfig(plugin.name, plugin.name, {}, protocols=("tcp",)) for plugin in plugins]
    application = running.gateway._application
    assert application is not None
    generation = application.generation
    assert generation.stream is not None
    registry = Registry(configured, {plugin.name: plugin for plugin in plugins}, STREAM_PROTOCOLS)
    generation.stream = StreamSubsystem(generation.stream.router, registry)
