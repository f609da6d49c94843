"""Asking Kong's status listener for a sign of life, and whether Kong is ready."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kong_pdk.image import status_listener
from kong_pdk.image.status_listener import Listener, find_listener, silence, unreadiness
from local_servers import Answer, ConnectionServer, http_service


@pytest.fixture
def ask_kong() -> Iterator[Callable[..., list[str]]]:
    """Ask a status listener that answers with this status and body."""
    with contextlib.ExitStack() as listeners:

        def ask_listener(status: int, body: bytes) -> list[str]:
            answer = {"/status/ready": Answer(status, body=body)}
            return ask(listeners.enter_context(http_service(lambda request: answer.get(request.path, Answer(418)))))

        yield ask_listener


def ask(port: object) -> list[str]:
    return unreadiness({"KONG_STATUS_LISTEN": f"0.0.0.0:{port}"})


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


def test_ready(ask_kong: Callable[..., list[str]]) -> None:
    assert ask_kong(200, b'{"message":"ready"}') == []


def test_not_ready(ask_kong: Callable[..., list[str]]) -> None:
    assert ask_kong(503, b'{"message":"no configuration available"}') == [
        "kong: is not ready, /status/ready answers 503: no configuration available"
    ]


@pytest.mark.parametrize(
    ("body", "shown"), [(b"<html>", "<html>"), (b"", "nothing more"), (b"[]", "[]"), (b"\xff", "\ufffd")]
)
def test_an_answer_that_is_not_kongs(ask_kong: Callable[..., list[str]], body: bytes, shown: str) -> None:
    assert ask_kong(404, body) == [f"kong: is not ready, /status/ready answers 404: {shown}"]


def test_nobody_listens() -> None:
    [line] = ask(1)
    assert line.startswith("kong: its status listener does not answer on 127.0.0.1:1: ")


@pytest.mark.parametrize(("environ", "value"), [({}, "not set"), ({"KONG_STATUS_LISTEN": "off"}, "off")])
def test_no_status_listener(environ: dict[str, str], value: str) -> None:
    assert unreadiness(environ) == [
        f"kong: KONG_STATUS_LISTEN is {value}, so Kong cannot be asked whether it is ready; "
        "set it to an address, such as 0.0.0.0:8100"
    ]


def test_any_answer_is_a_sign_of_life() -> None:
    with http_service(lambda request: Answer(500 if request.path == "/status" else 200)) as port:
        assert silence({"KONG_STATUS_LISTEN": f"0.0.0.0:{port}"}) == []


def test_a_kong_that_takes_connections_but_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_listener, "_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert silence({"KONG_STATUS_LISTEN": f"0.0.0.0:{port}"}) == [
            f"kong: its status listener does not answer on 127.0.0.1:{port}: timed out"
        ]


def test_an_answer_that_is_no_http() -> None:
    [line] = garbled_silence(b"\x00\xff nonsense\r\n\r\n")
    assert line.startswith("kong: its status listener does not answer on 127.0.0.1:")


def garbled_silence(answer: bytes) -> list[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    with contextlib.closing(ConnectionServer(listener, lambda connection: connection.sendall(answer))):
        return silence({"KONG_STATUS_LISTEN": f"127.0.0.1:{listener.getsockname()[1]}"})


def test_without_a_status_listener_kong_is_not_asked_for_a_sign_of_life() -> None:
    assert silence({"KONG_STATUS_LISTEN": "off"}) == []


def test_the_running_kong_knows_its_listener_best(tmp_path: Path) -> None:
    """A default depends on Kong's version, and a variable of ``docker exec -e`` is not the running Kong's."""
    environ = {"KONG_PREFIX": str(tmp_path), "KONG_STATUS_LISTEN": "off"}
    assert silence(environ) == []
    (tmp_path / ".kong_env").write_text("# of Kong\nproxy_listen = off\nstatus_listen = 127.0.0.1:1 reuseport\n")
    for ask_it in (silence, unreadiness):
        [line] = ask_it(environ)
        assert line.startswith("kong: its status listener does not answer on 127.0.0.1:1: ")
