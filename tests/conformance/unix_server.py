"""What the probes have in common: a plugin server on a unix socket, with a thread for each connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kong_pdk.wire import msgpack_codec, protobuf_codec

DEADLINE = 20.0


class UnixServer(ABC):
    """Listens from ``start`` to ``stop``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._run(self._accept)

    def stop(self) -> None:
        for connection in [self._listener, *self._connections]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join(DEADLINE)

    @abstractmethod
    def serve(self, connection: socket.socket) -> None:
        """Serve one connection until it is closed."""

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError, EOFError):
            self.serve(connection)

    def _run(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()


def answer_requests(connection: socket.socket, answer: Callable[[str, Any], Any]) -> None:
    """Serve a connection of MsgPack:1: ``answer`` gives the result for a method and its argument."""
    messages = msgpack_codec.Messages()
    while data := connection.recv(65536):
        for message in messages.feed(data):
            assert isinstance(message, msgpack_codec.Request)
            result = answer(message.method, message.args[0])
            connection.sendall(msgpack_codec.encode_response(message.id, None, result))


class FrameStream:
    """A connection of ProtoBuf:1, frame by frame."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._frames = protobuf_codec.Frames()
        self._received: list[bytes] = []

    def next(self) -> bytes:
        """Wait for the next frame. Raises EOFError when there is none."""
        while not self._received:
            data = self._connection.recv(65536)
            if not data:
                raise EOFError
            self._received = self._frames.feed(data)
        return self._received.pop(0)

    def send(self, *payloads: bytes) -> None:
        self._connection.sendall(b"".join(protobuf_codec.frame(payload) for payload in payloads))
