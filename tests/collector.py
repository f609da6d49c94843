"""A collector of log entries for tests of ``py-access-log``: keeps what it gets, and fails as a test asks.

In a process of its own: ``python3 collector.py PORT``. Then ``GET /`` gives the entries that it has taken.
"""

from __future__ import annotations

import gzip
import json
import ssl
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CLOSE = 0
"""Instead of a status: close the connection without an answer."""


@dataclass
class Batch:
    """A request with entries, as it came."""

    path: str
    headers: dict[str, str]
    entries: list[Any]
    status: int


@dataclass
class Collector:
    """The batches it received, and its answers: the ``statuses`` in their order, then 200."""

    batches: list[Batch] = field(default_factory=list)
    statuses: deque[int] = field(default_factory=deque)
    answer_headers: dict[str, str] = field(default_factory=dict)
    most_entries: int | None = None
    answers: threading.Event = field(default_factory=threading.Event)
    _tests: int = 0

    def __post_init__(self) -> None:
        self.answers.set()

    def begin(self) -> None:
        """Forget the batches of the last test, also those still to arrive."""
        self._tests += 1
        self.batches.clear()
        self.statuses.clear()
        self.answer_headers.clear()
        self.most_entries = None
        self.answers.set()

    @property
    def entries(self) -> list[Any]:
        """The entries of the accepted batches."""
        return [entry for batch in list(self.batches) if batch.status == 200 for entry in batch.entries]

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Keep a batch; the status to answer with, or CLOSE."""
        test = self._tests
        self.answers.wait(60)
        if test != self._tests:
            return CLOSE
        text = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        entries = [json.loads(line) for line in text.splitlines()]
        status = self.statuses.popleft() if self.statuses else 200
        if self.most_entries is not None and len(entries) > self.most_entries:
            status = 413
        self.batches.append(Batch(path, headers, entries, status))
        return status


def handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body are two writes

        def do_GET(self) -> None:
            self._answer(200, json.dumps(collector.entries).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = collector.take(self.path, headers, body)
            if status == CLOSE:
                self.close_connection = True
                return
            self._answer(status, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            for name, value in collector.answer_headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the output free of requests."""

    return Handler


@contextmanager
def serving(collector: Collector, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve it on a port of 127.0.0.1; its URL."""
    with ThreadingHTTPServer(("127.0.0.1", port), handler(collector)) as server:
        server.daemon_threads = True
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}/logs"
        finally:
            collector.answers.set()
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), handler(Collector())).serve_forever()
