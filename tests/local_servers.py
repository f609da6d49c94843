"""Small servers on this machine for tests to talk to: HTTP with an answer from a function, and plain connections."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from waiting import DEADLINE

Headers = Sequence[tuple[str, str]]


class WithHeaders:
    """A message with headers."""

    headers: Headers

    def values(self, name: str) -> list[str]:
        """The values of a header, in their order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def value(self, name: str) -> str | None:
        """The first value of a header, None without it."""
        return next(iter(self.values(name)), None)


@dataclass
class Request(WithHeaders):
    """A request as the server got it."""

    method: str
    path: str
    headers: Headers
    body: bytes


@dataclass
class Answer:
    """The server adds Content-Length."""

    status: int = 200
    headers: Headers = ()
    body: bytes = b""


class HandlerServer:
    """Serves by a handler of ``http.server`` on a port of 127.0.0.1; with TLS if it is given a context."""

    def __init__(self, handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port: int = self._server.server_address[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(DEADLINE)


class HttpServer(HandlerServer):
    """Answers each request, of any method."""

    def __init__(self, answer: Callable[[Request], Answer], tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        super().__init__(self._handler(), tls)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server_version = "upstream"
            sys_version = ""
            timeout = DEADLINE
            disable_nagle_algorithm = True  # headers and body are two writes

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self.respond
                raise AttributeError(name)

            def respond(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                answer = served.answer(Request(self.command, self.path, self.headers.items(), body))
                self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            def log_message(self, format: str, *args: object) -> None:
                """Keep the output of the tests free of requests."""

        return Handler


@contextlib.contextmanager
def http_service(answer: Callable[[Request], Answer]) -> Iterator[int]:
    """Answer requests on a free port of 127.0.0.1; gives the port."""
    server = HttpServer(answer)
    try:
        yield server.port
    finally:
        server.close()


class ConnectionServer:
    """Gives each connection to a listening socket to a function, in a thread of its own, and closes it after that."""

    def __init__(self, listener: socket.socket, talk: Callable[[socket.socket], None]) -> None:
        self.connections: list[socket.socket] = []
        self._listener = listener
        self._talk = talk
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def close(self) -> None:
        """Stop listening, end all connections and wait for their threads."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(DEADLINE)
        self._listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(DEADLINE)
                self.connections.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            self._talk(connection)


@contextlib.contextmanager
def tcp_service(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve connections to a free port of 127.0.0.1; gives the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = ConnectionServer(listener, talk)
    try:
        yield listener.getsockname()[1]
    finally:
        server.close()


@contextlib.contextmanager
def unix_service(path: Path, talk: Callable[[socket.socket], None]) -> Iterator[None]:
    """Serve connections to a unix socket."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    server = ConnectionServer(listener, talk)
    try:
        yield
    finally:
        server.close()


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
