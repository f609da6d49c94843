"""Asking Kong's status listener whether it is ready."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from kong_pdk.image.readiness import Listener, find_listener, problems


class Answers(BaseHTTPRequestHandler):
    status, body = 200, b'{"message":"ready"}'

    def do_GET(self) -> None:
        assert self.path == "/status/ready"
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def kong() -> Iterator[type[Answers]]:
    """A status listener; what it answers is an attribute of what this gives, its port is ``port``."""
    answers = type("Answers", (Answers,), {})
    server = HTTPServer(("127.0.0.1", 0), answers)
    answers.port = server.server_port  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield answers
    server.shutdown()
    thread.join()
    server.server_close()


def ask(port: object) -> list[str]:
    return problems({"KONG_STATUS_LISTEN": f"0.0.0.0:{port}"})


@pytest.mark.parametrize(
    ("text", "listener"),
    [
        ("0.0.0.0:8100", Listener("127.0.0.1", 8100, False)),
        ("[::]:8100", Listener("::1", 8100, False)),
        ("10.1.2.3:8007 reuseport backlog=16384", Listener("10.1.2.3", 8007, False)),
        ("127.0.0.1:8543 ssl http2, 127.0.0.1:8100", Listener("127.0.0.1", 8100, False)),
        ("0.0.0.0:8543 ssl", Listener("127.0.0.1", 8543, True)),
        ("status.local:8100", Listener("status.local", 8100, False)),
        ("off", None),
        ("", None),
        ("8100", None),
        ("127.0.0.1:65536", None),
        ("unix:/run/status.sock", None),
    ],
)
def test_the_address_to_ask(text: str, listener: Listener | None) -> None:
    assert find_listener(text) == listener


def test_ready(kong: type[Answers]) -> None:
    assert ask(kong.port) == []  # type: ignore[attr-defined]


def test_not_ready(kong: type[Answers]) -> None:
    kong.status, kong.body = 503, b'{"message":"no configuration available"}'
    assert ask(kong.port) == [  # type: ignore[attr-defined]
        "kong: is not ready, /status/ready answers 503: no configuration available"
    ]


@pytest.mark.parametrize(
    ("body", "said"), [(b"<html>", "<html>"), (b"", "nothing more"), (b"[]", "[]"), (b"\xff", "\ufffd")]
)
def test_an_answer_that_is_not_kongs(kong: type[Answers], body: bytes, said: str) -> None:
    kong.status, kong.body = 404, body
    assert ask(kong.port) == [f"kong: is not ready, /status/ready answers 404: {said}"]  # type: ignore[attr-defined]


def test_nobody_listens(kong: type[Answers]) -> None:
    [line] = ask(1)
    assert line.startswith("kong: its status listener does not answer on 127.0.0.1:1: ")


@pytest.mark.parametrize(("environ", "value"), [({}, "not set"), ({"KONG_STATUS_LISTEN": "off"}, "off")])
def test_no_status_listener(environ: dict[str, str], value: str) -> None:
    assert problems(environ) == [
        f"kong: KONG_STATUS_LISTEN is {value}, so Kong cannot be asked whether it is ready; "
        "set it to an address, such as 0.0.0.0:8100"
    ]
