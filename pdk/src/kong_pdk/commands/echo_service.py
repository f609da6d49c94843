"""``kong-python upstream``: an HTTP service to put behind Kong. It answers each request with a description of it."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

from kong_pdk.logs import NOTICE, configure
from kong_pdk.settings import LOG_FORMAT

DEFAULT_PORT = 9000
MAX_BODY = 8 * 1024 * 1024

_SECONDS = 30.0
_CHECK_AGENT = "kong-python-check"
_JSON_LINES = "application/x-ndjson"

_log = logging.getLogger(__name__)


class EchoHandler(BaseHTTPRequestHandler):
    """An HTTP handler that answers with JSON."""

    protocol_version = "HTTP/1.1"
    server_version = "kong-python-upstream"
    sys_version = ""
    timeout = _SECONDS
    disable_nagle_algorithm = True  # headers and body are two writes

    def __getattr__(self, name: str) -> Any:
        """Give the same handler for every method."""
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        """Answer a request with its method, path, headers and body."""
        body = self._body()
        if body is None:
            self.close_connection = True
            self.send_error(413, "The body has no length or is too long")
            return
        if self.headers.get_content_type() == _JSON_LINES:
            _log_lines(body)
        received = {
            "method": self.command,
            "path": self.path,
            "headers": self._headers(),
            "body": body.decode("utf-8", "backslashreplace"),
        }
        content = json.dumps(received, indent=2).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _headers(self) -> dict[str, str | list[str]]:
        """Give the headers by name; a list where a name comes several times."""
        headers = {name.lower(): self.headers.get_all(name, []) for name in self.headers}
        return {name: values if len(values) > 1 else values[0] for name, values in headers.items()}

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > MAX_BODY:
            return None
        return self.rfile.read(int(length))

    def log_message(self, format: str, *args: object) -> None:
        """Log a request, unless it is one of the health check."""
        if getattr(self, "headers", None) and self.headers.get("User-Agent") == _CHECK_AGENT:
            return
        _log.info("%s %s", self.address_string(), format % args)


def _log_lines(body: bytes) -> None:
    """Log the entries that a plugin has sent here as to a log collector."""
    for line in body.decode("utf-8", "backslashreplace").splitlines():
        _log.info("received %s", line)


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM, SIGINT or SIGQUIT; with ``--check`` ask a running service for a sign of life."""
    parser = argparse.ArgumentParser(
        prog="kong-python upstream", description="An HTTP service that answers with what it received, to play with."
    )
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"default: {DEFAULT_PORT}")
    parser.add_argument("--check", action="store_true", help="end with status 0 if the service runs on 127.0.0.1")
    arguments = parser.parse_args(list(argv))
    if arguments.check:
        return check(arguments.port)
    configure("upstream", form=LOG_FORMAT.read(os.environ))
    try:
        server = ThreadingHTTPServer((arguments.host, arguments.port), EchoHandler)
    except (OSError, OverflowError) as error:
        _log.error("cannot listen on %s:%d: %s", arguments.host, arguments.port, error)
        return 1
    with server:
        _stop_on_signals(server)
        _log.log(NOTICE, "listening on %s:%d", *server.server_address[:2])
        server.serve_forever(poll_interval=0.2)
    return 0


def check(port: int) -> int:
    """Ask a running service for a sign of life.

    :return: the exit status, 0 or 1.
    """
    request = Request(f"http://127.0.0.1:{port}/", headers={"User-Agent": _CHECK_AGENT})
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=2) as answer:
            return 0 if answer.status == 200 else 1
    except (URLError, OSError) as error:
        print(f"no answer on 127.0.0.1:{port}: {error}")
        return 1


def _stop_on_signals(server: ThreadingHTTPServer) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        # shutdown() waits for the loop, and this handler interrupts the loop.
        threading.Thread(target=server.shutdown).start()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, stop)
