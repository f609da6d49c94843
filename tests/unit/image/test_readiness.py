"""Asking Kong's status listener whether it is ready."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from kong_pdk.image.readiness import Listener, find_listener, problems
from local_servers import Answer, http_service


@pytest.fixture
def ask_kong() -> Iterator[Callable[..., list[str]]]:
    """Ask a status listener that answers with this status and body."""
    with contextlib.ExitStack() as listeners:

        def ask_listener(status: int, body: bytes) -> list[str]:
            answer = {"/status/ready": Answer(status, body=body)}
            return ask(listeners.enter_context(http_service(lambda request: answer.get(request.path, Answer(418)))))

        yield ask_listener


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
    assert problems(environ) == [
        f"kong: KONG_STATUS_LISTEN is {value}, so Kong cannot be asked whether it is ready; "
        "set it to an address, such as 0.0.0.0:8100"
    ]
