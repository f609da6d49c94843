"""Small servers in threads of the tests: plugin servers on unix sockets, and the service behind the recordings."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kong_pdk.wire import msgpack_codec, protobuf_codec

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    """Serve in a thread as long as the block runs."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def unix_server(path: Path, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """Call ``serve`` in a thread for each connection to a unix socket; the connection is closed when it returns."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(ConnectionError, EOFError):
                serve(self.request)

    server = socketserver.ThreadingUnixStreamServer(str(path), Handler, bind_and_activate=False)
    server.daemon_threads, server.request_queue_size = True, 64
    server.server_bind()
    server.server_activate()
    with running(server):
        yield


@contextmanager
def http_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Serve HTTP on a free port of 127.0.0.1, which it gives."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    with running(server):
        yield int(server.server_address[1])


def answer_requests(connection: socket.socket, answer: Callable[[str, Any], Any]) -> None:
    """Serve a connection of MsgPack:1: ``answer`` gives the result for a method and its argument."""
    messages = msgpack_codec.Messages()
    while data := connection.recv(65536):
        for message in messages.feed(data):
            assert isinstance(message, msgpack_codec.Request)
            result = answer(message.method, message.args[0])
            connection.sendall(msgpack_codec.encode_response(message.id, None, result))


class FrameStream:
    """A connection of ProtoBuf:1 as a plugin server has it, frame by frame."""

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


class RecordedUpstream(BaseHTTPRequestHandler):
    """The service behind the recordings: it answers every request with what it was sent."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write for head and body: two would wait for each other's acknowledgement

    def version_string(self) -> str:
        return "upstream"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        received = {"method": self.command, "path": self.path, "headers": headers, "body_hex": body.hex()}
        content = json.dumps(received).encode()
        self.send_response(int(self.headers.get("x-upstream-status") or 200))
        for name, value in (
            ("Content-Type", "application/json"),
            ("X-Multi", "one"),
            ("X-Multi", "two"),
            ("X-Up", "yes"),
            ("Content-Length", str(len(content))),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        return


for _method in METHODS:
    setattr(RecordedUpstream, f"do_{_method}", RecordedUpstream.answer)
