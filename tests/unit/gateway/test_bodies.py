"""Bodies of requests and responses: streamed in bounded memory, read for plugins, and always removed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.client
import socket
import stat
import threading
from pathlib import Path

import pytest
from kong_pdk.gateway import client_side, http_protocol
from kong_pdk.gateway.exchange import Exchange
from waiting import DEADLINE, wait_for

from .conftest import PythonPlugin, Running, Seen, Serve, Upstream, read_reply

LARGE = 50 * 1024 * 1024
PIECE = b"x" * 65536
# The buffers of sockets and of two event loops: far less than the body.
IN_FLIGHT = 16 * 1024 * 1024


def head(length: int, *more: str) -> bytes:
    lines = ["POST / HTTP/1.1", "Host: x", f"Content-Length: {length}", *more, "Connection: close", "", ""]
    return "\r\n".join(lines).encode()


def test_a_large_request_streams_in_bounded_memory(simple: Running, upstream: Upstream) -> None:
    """The upstream stops reading: soon the client cannot send more, since the body is not buffered."""
    go_on = threading.Event()
    upstream.keep = 0

    def hold(size: int) -> None:
        assert go_on.wait(DEADLINE)

    upstream.on_piece = hold
    sent = 0
    with simple.connect() as connection:
        connection.sendall(head(LARGE))
        connection.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while sent < LARGE:
                sent += connection.send(PIECE[: LARGE - sent])
        assert sent < IN_FLIGHT
        go_on.set()
        connection.settimeout(DEADLINE)
        while sent < LARGE:
            sent += connection.send(PIECE[: LARGE - sent])
        assert read_reply(connection).json()["size"] == LARGE
    assert upstream.seen[0].values("content-length") == [str(LARGE).encode()]
    assert not list((simple.prefix / "client_body_temp").glob("*"))


def test_a_large_response_streams_in_bounded_memory(simple: Running, upstream: Upstream) -> None:
    """The client stops reading: soon the upstream cannot send more."""
    sent = 0
    stalled = threading.Event()

    def answer(seen: Seen, connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n".encode())
        connection.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while sent < LARGE:
                sent += connection.send(PIECE[: LARGE - sent])
        stalled.set()
        connection.settimeout(DEADLINE)
        while sent < LARGE:
            sent += connection.send(PIECE[: LARGE - sent])

    upstream.answer = answer
    with simple.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert stalled.wait(DEADLINE)
        assert sent < IN_FLIGHT
        assert len(read_reply(connection).body) == LARGE


def test_a_stream_of_events_is_not_held_back(simple: Running, upstream: Upstream) -> None:
    seen_by_client = threading.Event()

    def answer(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ndata: 1\r\n")
        assert seen_by_client.wait(DEADLINE)
        connection.sendall(b"7\r\ndata: 2\r\n0\r\n\r\n")

    upstream.answer = answer
    with simple.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while b"data: 1" not in data:
            data += connection.recv(4096)
        seen_by_client.set()
        while piece := connection.recv(4096):
            data += piece
    assert data.endswith(b"data: 2\r\n0\r\n\r\n")


@pytest.mark.parametrize("body", [b"no length\r\n", b"5T\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\r\n0\r\n\r\n"])
def test_an_invalid_chunk(simple: Running, caplog: pytest.LogCaptureFixture, body: bytes) -> None:
    """The client gets 400. The request ends without another answer, and without a traceback."""
    for _ in range(5):
        with simple.connect() as connection:
            connection.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
            assert read_reply(connection).status == 400
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
    gc.collect()  # asyncio writes of a task's exception when the task is deleted
    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_a_chunked_request_gets_a_length_as_nginx_gives_it(simple: Running, upstream: Upstream) -> None:
    reply = simple.send(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    )
    assert reply.status == 200
    seen = upstream.seen[0]
    assert (seen.body, seen.values("content-length"), seen.values("transfer-encoding")) == (b"abcdefg", [b"7"], [])


@pytest.mark.parametrize(("size", "in_file"), [(0, False), (8192, False), (8193, True), (3_000_000, True)])
def test_a_plugin_reads_the_body_and_the_upstream_gets_it_too(
    simple: Running, upstream: Upstream, size: int, in_file: bool
) -> None:
    found: list[tuple[bytes, Path | None, int]] = []

    async def access(exchange: Exchange) -> None:
        body = await exchange.request.read_body()
        again = await exchange.request.read_body()
        assert again is body
        mode = stat.S_IMODE(body.file.stat().st_mode) if body.file else 0
        found.append((body.file.read_bytes() if body.file else body.content, body.file, mode))

    content = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    upstream.keep = size
    simple.use(PythonPlugin("p", {"access": access}))
    assert simple.request("POST", "/", body=content).status == 200
    assert upstream.seen[0].body == content
    read, file, mode = found[0]
    assert read == content
    assert (file is not None, mode) == (in_file, 0o600 if in_file else 0)
    warning = f"[warn] kong: a client request body is buffered to a temporary file {file}, client: 127.0.0.1"
    assert simple.errors.getvalue().count(warning) == in_file
    if file is not None:
        assert file.parent == simple.prefix / "client_body_temp"
        wait_for(lambda: not file.exists())


def test_a_body_file_that_cannot_be_written_is_a_500(simple: Running) -> None:
    async def access(exchange: Exchange) -> None:
        await exchange.request.read_body()

    simple.use(PythonPlugin("p", {"access": access}))
    (simple.prefix / "client_body_temp").write_text("in the way")
    reply = simple.request("POST", "/", body=b"x" * 10_000)
    assert reply.status == 500
    assert "client_body_temp" in simple.errors.getvalue()


def test_expect_100_continue(simple: Running, upstream: Upstream) -> None:
    with simple.connect() as connection:
        connection.sendall(head(5, "Expect: 100-continue"))
        interim = b""
        while not interim.endswith(b"\r\n\r\n"):
            interim += connection.recv(1)
        assert interim.startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"hello")
        assert read_reply(connection).status == 200
    assert (upstream.seen[0].body, upstream.seen[0].values("expect")) == (b"hello", [])


def test_a_client_that_leaves_before_its_answer_frees_the_upstream(simple: Running, upstream: Upstream) -> None:
    requested, left = threading.Event(), threading.Event()

    def answer(seen: Seen, connection: socket.socket) -> None:
        requested.set()
        # The gateway closes its connection when its client is gone.
        if connection.recv(1) == b"":
            left.set()

    upstream.answer = answer
    statuses: list[int | None] = []

    async def log(exchange: Exchange) -> None:
        statuses.append(exchange.response.status)

    simple.use(PythonPlugin("p", {"log": log}))
    with simple.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert requested.wait(DEADLINE)
    assert left.wait(DEADLINE)
    wait_for(lambda: statuses == [499])
    assert '" 499 0 "' in simple.access_log()


def test_a_client_that_leaves_in_its_upload_leaves_no_file_or_connection(simple: Running, upstream: Upstream) -> None:
    async def access(exchange: Exchange) -> None:
        await exchange.request.read_body()

    statuses: list[int | None] = []

    async def log(exchange: Exchange) -> None:
        statuses.append(exchange.response.status)

    simple.use(PythonPlugin("p", {"access": access, "log": log}))
    folder = simple.prefix / "client_body_temp"
    with simple.connect() as connection:
        connection.sendall(head(1_000_000) + b"x" * 100_000)
        wait_for(lambda: any(folder.glob("*")))
    wait_for(lambda: statuses == [499])
    wait_for(lambda: not any(folder.glob("*")))
    assert not upstream.seen


def test_a_client_that_leaves_while_it_downloads(simple: Running, upstream: Upstream) -> None:
    broken = threading.Event()

    def answer(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n".encode())
        try:
            for _ in range(LARGE // len(PIECE)):
                connection.sendall(PIECE)
        except OSError:
            broken.set()

    upstream.answer = answer
    with simple.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1000)
    assert broken.wait(DEADLINE)


def test_an_incomplete_answer_is_not_completed(simple: Running, upstream: Upstream) -> None:
    def answer(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.shutdown(socket.SHUT_RDWR)

    upstream.answer = answer
    with simple.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
            read_reply(connection)
    wait_for(lambda: "upstream broke off its response" in simple.errors.getvalue())


def test_an_upstream_that_breaks_off_a_buffered_answer_is_a_502(simple: Running, upstream: Upstream) -> None:
    async def response(exchange: Exchange) -> None:
        raise AssertionError("there is no whole response")

    def answer(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.shutdown(socket.SHUT_RDWR)

    upstream.answer = answer
    simple.use(PythonPlugin("p", {"response": response}))
    assert simple.request("GET", "/").status == 502


def test_an_unread_body_does_not_spoil_the_next_request(serve: Serve, upstream: Upstream) -> None:
    gateway = serve('_format_version: "3.0"\n')
    with gateway.connect() as connection:
        connection.sendall(b"POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n")
        connection.sendall(b"GET " * 75_000)
        connection.sendall(b"GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while piece := connection.recv(65536):
            data += piece
    assert data.count(b"HTTP/1.1 404 Not Found") == 2


def test_a_client_that_left_before_its_request_went_on(simple: Running, upstream: Upstream) -> None:
    """nginx checks the client before it connects to the upstream, and sends no request for a client that is gone."""
    began, go_on = threading.Event(), threading.Event()
    statuses: list[int | None] = []

    async def access(exchange: Exchange) -> None:
        began.set()
        while not go_on.is_set():
            await asyncio.sleep(0.01)

    async def log(exchange: Exchange) -> None:
        statuses.append(exchange.response.status)

    simple.use(PythonPlugin("p", {"access": access, "log": log}))
    statistics = simple.gateway._statistics
    with simple.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert began.wait(DEADLINE)
    wait_for(lambda: statistics.connections_active == 0)
    go_on.set()
    wait_for(lambda: statuses == [499])
    assert not upstream.seen


def test_a_client_that_does_not_read_is_disconnected(
    simple: Running, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_side, "_SEND_TIMEOUT", 0.2)
    broken = threading.Event()

    def answer(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n".encode())
        try:
            for _ in range(LARGE // len(PIECE)):
                connection.sendall(PIECE)
        except OSError:
            broken.set()

    upstream.answer = answer
    with simple.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert broken.wait(DEADLINE)


def test_a_client_that_sends_no_body(simple: Running, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_side, "_BODY_TIMEOUT", 0.1)
    with simple.connect() as connection:
        connection.sendall(head(10, "Accept: */*"))
        reply = read_reply(connection)
    assert (reply.status, reply.json()["message"]) == (408, "Request timeout")


def test_a_client_that_sends_no_head(simple: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEADER_TIMEOUT", 0.1)
    with simple.connect() as connection:
        connection.sendall(b"GET / HT")
        assert connection.recv(1) == b""


def test_a_response_phase_ends_though_the_client_has_left(simple: Running) -> None:
    """Plugins call their servers at this time; Kong lets them finish."""
    began, go_on, over = threading.Event(), threading.Event(), threading.Event()

    async def response(exchange: Exchange) -> None:
        began.set()
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        over.set()

    simple.use(PythonPlugin("p", {"response": response}))
    statistics = simple.gateway._statistics
    with simple.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert began.wait(DEADLINE)
    wait_for(lambda: statistics.connections_active == 0)
    go_on.set()
    assert over.wait(DEADLINE)
