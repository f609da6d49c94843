"""A TCP service behind the stream proxy, its clients, and plugins of the stream subsystem."""

from __future__ import annotations

import socket
from collections.abc import Callable

from kong_pdk.gateway.app import StreamSubsystem
from kong_pdk.gateway.entities import PluginConfig
from kong_pdk.gateway.phases import Registry
from kong_pdk.gateway.stream.routes import STREAM_PROTOCOLS
from waiting import DEADLINE

from .conftest import PythonPlugin, Running

Talk = Callable[[socket.socket], None]


def echo(connection: socket.socket) -> None:
    """Send each piece back."""
    while data := connection.recv(65536):
        connection.sendall(b"A:" + data)


def after_the_end(connection: socket.socket) -> None:
    """Answer after the client has ended its side."""
    received = b""
    while data := connection.recv(65536):
        received += data
    connection.sendall(b"all of " + received)


def once(answer: bytes) -> Talk:
    """Answer the first piece and end; later pieces are read, so that the answer is not cut."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        read_to_end(connection)

    return talk


def configuration(port: int, more: str = "") -> str:
    """One TCP service with a route for clients on this machine; ``more`` are fields of the service."""
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
    """Connect a client to the stream listener."""
    connection = socket.create_connection(("127.0.0.1", running.gateway.stream_addresses[0].port), DEADLINE)
    connection.settimeout(DEADLINE)
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """Read until the end. Raises ConnectionResetError if the connection is reset."""
    received = bytearray()
    while data := connection.recv(65536):
        received += data
    return bytes(received)


def use(running: Running, *plugins: PythonPlugin) -> None:
    """Run these plugins of the stream subsystem globally."""
    configured = [PluginConfig(plugin.name, plugin.name, {}, protocols=("tcp",)) for plugin in plugins]
    application = running.gateway._application
    assert application is not None
    generation = application.generation
    assert generation.stream is not None
    registry = Registry(configured, {plugin.name: plugin for plugin in plugins}, STREAM_PROTOCOLS)
    generation.stream = StreamSubsystem(generation.stream.router, registry)
