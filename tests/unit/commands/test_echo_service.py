"""The echo service."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer

import pytest
from kong_pdk.commands.echo_service import EchoHandler, check, main
from local_servers import free_port


@pytest.fixture
def port() -> Iterator[int]:
    """Run the service on a free port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), EchoHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(30)


def exchange(port: int, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "ANYTHING"])
def test_it_answers_with_what_it_received(port: int, method: str) -> None:
    status, content = exchange(port, method, "/a?b=c", b"\xff body", {"X-One": "1"})
    received = json.loads(content)
    assert status == 200
    assert (received["method"], received["path"], received["body"]) == (method, "/a?b=c", "\\xff body")
    assert received["headers"]["x-one"] == "1"


def test_head_has_no_body(port: int) -> None:
    assert exchange(port, "HEAD", "/", None, {}) == (200, b"")


@pytest.mark.parametrize("headers", [{"Content-Length": "99999999999"}, {"Transfer-Encoding": "chunked"}])
def test_a_body_that_is_too_large_is_refused(port: int, headers: dict[str, str]) -> None:
    assert exchange(port, "POST", "/", None, headers)[0] == 413


def test_entries_of_a_log_are_shown(port: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert exchange(port, "POST", "/", b'{"a":1}\n{"b":"\xff"}\n', {"Content-Type": "application/x-ndjson"})[0] == 200
    assert exchange(port, "POST", "/", b'{"c":1}', {"Content-Type": "application/json"})[0] == 200

    assert [text for text in caplog.messages if "{" in text] == ['received {"a":1}', 'received {"b":"\\xff"}']


def test_the_check_succeeds_with_a_running_service(port: int) -> None:
    assert check(port) == 0
    assert main(["--check", "--port", str(port)]) == 0


def test_the_check_fails_without_a_service(capsys: pytest.CaptureFixture[str]) -> None:
    free = free_port()
    assert check(free) == 1
    assert f"no answer on 127.0.0.1:{free}" in capsys.readouterr().out


def test_a_port_in_use_is_named_without_a_traceback(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", "127.0.0.1", "--port", str(port)]) == 1
    assert f"cannot listen on 127.0.0.1:{port}: " in capsys.readouterr().err
