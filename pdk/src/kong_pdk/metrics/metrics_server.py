"""The HTTP server of the metrics."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from kong_pdk.settings import Address

_log = logging.getLogger(__name__)
_PATH = "/metrics"
_INDEX = b"kong-python: Prometheus metrics of the plugin servers are at /metrics\n"
_TEXT = "text/plain; charset=utf-8"
_SILENT_SECONDS = 10.0
_LONGEST_SECONDS = 30.0
_MOST_CONNECTIONS = 32


class MetricsServer(ThreadingHTTPServer):
    """Answers GET and HEAD of ``/metrics``. No client can block the others for more than half a minute."""

    daemon_threads = True

    def __init__(self, address: Address, collector: Collector) -> None:
        """Listen on an address.

        :raises OSError: the address does not belong to this machine, is in use, or is not allowed.
        """
        self.collector = collector
        self._since: dict[socket.socket, float] = {}
        self._changing = threading.Lock()
        addresses = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # "localhost" has two addresses, of which people mean the IPv4 one.
        self.address_family, *_, where = min(addresses, key=lambda each: each[0] != socket.AF_INET)
        super().__init__(where[:2], _Handler)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        """Bind without the base class's reverse look-up of the host's name, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection on a thread of its own, unless there are too many."""
        with self._changing:
            full = len(self._since) >= _MOST_CONNECTIONS
            if not full:
                self._since[request] = time.monotonic()
        if full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._changing:
            self._since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End connections that last too long, of clients that send a byte now and then."""
        limit = time.monotonic() - _LONGEST_SECONDS
        with self._changing:
            late = [connection for connection, since in self._since.items() if since < limit]
            for connection in late:
                with contextlib.suppress(OSError):  # the client is gone
                    connection.shutdown(socket.SHUT_RDWR)  # its thread closes the connection

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log an exception, unless the client is gone."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            _log.error("a request for metrics failed", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    server_version = "kong-python"
    sys_version = ""
    timeout = _SILENT_SECONDS
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = _TEXT

    def __getattr__(self, name: str) -> Any:
        """Answer every HTTP method by :meth:`_answer`."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        if self.command not in ("GET", "HEAD"):
            self._send(HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"only GET and HEAD\n", Allow="GET, HEAD")
            return
        path = self.path.partition("?")[0]
        if path == _PATH:
            self._send(HTTPStatus.OK, *self._metrics())
        elif path == "/":
            self._send(HTTPStatus.OK, _TEXT, _INDEX)
        else:
            self._send(HTTPStatus.NOT_FOUND, _TEXT, b"there is only /metrics\n")

    def _metrics(self) -> tuple[str, bytes]:
        try:
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        except (ValueError, TypeError):  # a version that is not a number
            encode, content_type = choose_encoder("")
        return content_type, encode(self.server.collector)

    def _send(self, status: HTTPStatus, content_type: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log no requests: there is one every few seconds."""
