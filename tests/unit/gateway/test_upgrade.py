"""WebSocket upgrades: passed on to the service, and carried in both directions after it agrees."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest
from kong_pdk.gateway.exchange import Exchange, Exit
from replies import Reply
from waiting import DEADLINE, wait_for

from .conftest import PythonPlugin, Running, Seen, Serve, Upstream, plain, read_reply

ASK = (
    b"GET /chat?x=1 HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Key: aaaa\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
AGREED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: zz\r\nX-Up: yes\r\n\r\n"
)
CONFIGURATION = """
_format_version: "3.0"
services:
- url: http://127.0.0.1:{port}
  read_timeout: {read_timeout}
  routes:
  - {{paths: [/], strip_path: false}}
"""


def echoes(seen: Seen, connection: socket.socket) -> None:
    """A service that agrees and echoes until its client ends."""
    connection.sendall(AGREED)
    while data := connection.recv(65536):
        connection.sendall(data)


def agreed(connection: socket.socket) -> dict[str, str]:
    """Read exactly the head of a 101; return its headers."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        assert piece, head
        head += piece
    status, *lines = head.decode("latin-1").rstrip().split("\r\n")
    assert status == "HTTP/1.1 101 Switching Protocols"
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def exactly(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        piece = connection.recv(65536)
        assert piece, f"the connection ended after {len(received)} bytes"
        received += piece
    return received


@contextlib.contextmanager
def upgrade_requested(gateway: Running, then: bytes = b"") -> Iterator[socket.socket]:
    with gateway.connect() as connection:
        connection.sendall(ASK + then)
        yield connection


class Phases(PythonPlugin):
    """A plugin that records its phases with the status of the response, and may answer in ``access``."""

    def __init__(self, answer: Exit | None = None) -> None:
        self.ran: list[tuple[str, int | None]] = []
        super().__init__("p", {phase: self._phase(phase) for phase in ("rewrite", "access", "response", "log")})
        self._answer = answer

    def _phase(self, phase: str) -> Callable[[Exchange], object]:
        async def run(exchange: Exchange) -> None:
            self.ran.append((phase, exchange.response.status))
            if phase == "access":
                exchange.upstream.headers.append((b"X-Guard", b"1"))
                exchange.response.headers.append((b"X-Plugin", b"2"))
                if self._answer is not None:
                    raise self._answer

        return run

    def phases_of_request(self) -> list[tuple[str, int | None]]:
        wait_for(lambda: any(phase == "log" for phase, _ in self.ran))
        return self.ran


@pytest.fixture
def gateway(serve: Serve, upstream: Upstream) -> Running:
    upstream.answer = echoes
    return serve(CONFIGURATION.format(port=upstream.port, read_timeout=60000))


def test_bytes_go_both_ways_and_access_and_log_run(gateway: Running, upstream: Upstream) -> None:
    phases = Phases()
    gateway.use(phases)
    with upgrade_requested(gateway) as connection:
        headers = agreed(connection)
        for message in (b"one", b"\x00\xff" * 300_000, b"two"):
            sender = threading.Thread(target=connection.sendall, args=(message,))
            sender.start()
            assert exactly(connection, len(message)) == message
            sender.join(DEADLINE)
        assert [phase for phase, _ in phases.ran] == ["rewrite", "access"]
    assert phases.phases_of_request() == [("rewrite", None), ("access", None), ("log", 101)]

    assert headers["upgrade"] == "websocket"
    assert headers["connection"] == "upgrade"
    assert (headers["sec-websocket-accept"], headers["x-up"], headers["x-plugin"]) == ("zz", "yes", "2")
    assert not {"content-length", "date"} & headers.keys()
    assert {"via", "x-kong-upstream-latency", "x-kong-proxy-latency", "x-kong-request-id"} <= headers.keys()
    (seen,) = upstream.seen
    assert seen.line == b"GET /chat?x=1 HTTP/1.1"
    assert (seen.values("connection"), seen.values("upgrade")) == ([b"keep-alive, Upgrade"], [b"websocket"])
    assert (seen.value("sec-websocket-key"), seen.value("x-guard")) == (b"aaaa", b"1")
    wait_for(lambda: ' 101 600006 "' in gateway.access_log())
    assert "response buffering was turned off: connection upgrade (websocket), client:" in gateway.errors.getvalue()
    assert "[error]" not in gateway.errors.getvalue()


def test_early_bytes_of_the_client_are_kept(gateway: Running) -> None:
    with upgrade_requested(gateway, b"early") as connection:
        agreed(connection)
        assert exactly(connection, 5) == b"early"


def test_the_service_s_first_bytes_may_come_with_its_answer(gateway: Running, upstream: Upstream) -> None:
    upstream.answer = lambda seen, connection: connection.sendall(AGREED + b"welcome")
    with upgrade_requested(gateway) as connection:
        agreed(connection)
        assert exactly(connection, 7) == b"welcome"


def test_over_tls(serve: Serve, upstream: Upstream) -> None:
    upstream.answer = echoes
    gateway = serve(CONFIGURATION.format(port=upstream.port, read_timeout=60000), proxy_listen="127.0.0.1:0 ssl")
    with ssl._create_unverified_context().wrap_socket(gateway.connect(), server_hostname="a.test") as connection:
        connection.sendall(ASK)
        agreed(connection)
        connection.sendall(b"x" * 100_000)
        assert exactly(connection, 100_000) == b"x" * 100_000


def test_the_end_of_the_service_ends_the_client_s_side(gateway: Running, upstream: Upstream) -> None:
    def one_word(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(AGREED + b"bye")
        connection.shutdown(socket.SHUT_WR)

    upstream.answer = one_word
    phases = Phases()
    gateway.use(phases)
    with upgrade_requested(gateway) as connection:
        agreed(connection)
        assert exactly(connection, 3) == b"bye"
        assert connection.recv(1) == b""
    assert phases.phases_of_request()[-1] == ("log", 101)


def test_the_end_of_the_client_ends_the_service_s_side(gateway: Running, upstream: Upstream) -> None:
    received: list[bytes] = []
    ended = threading.Event()

    def listens(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(AGREED)
        while data := connection.recv(65536):
            received.append(data)
        ended.set()

    upstream.answer = listens
    phases = Phases()
    gateway.use(phases)
    with upgrade_requested(gateway) as connection:
        agreed(connection)
        connection.sendall(b"last words")
    assert ended.wait(DEADLINE)
    assert b"".join(received) == b"last words"
    assert phases.phases_of_request()[-1] == ("log", 101)
    assert gateway.idle_connections == 0


def test_a_plugin_can_refuse_and_the_connection_stays_in_step(gateway: Running, upstream: Upstream) -> None:
    gateway.use(Phases(Exit(401, b'{"m":"no"}')))
    with gateway.connect() as connection:
        for _ in range(2):
            connection.sendall(ASK)
            reply = read_reply(connection)
            assert (reply.status, reply.body) == (401, b'{"m":"no"}')
    assert not upstream.seen


def test_a_service_may_decline_and_response_does_not_run(gateway: Running, upstream: Upstream) -> None:
    upstream.answer = lambda seen, connection: connection.sendall(plain(b"no", "403 Forbidden"))
    phases = Phases()
    gateway.use(phases)
    with gateway.connect() as connection:
        replies: list[Reply] = []
        for _ in range(2):
            connection.sendall(ASK)
            replies.append(read_reply(connection))
    assert [(reply.status, reply.body) for reply in replies] == [(403, b"no")] * 2
    wait_for(lambda: len(phases.ran) == 6)
    assert [phase for phase, _ in phases.ran] == ["rewrite", "access", "log"] * 2


@pytest.mark.parametrize("asks", ["Upgrade: h2c", "Upgrade: TLS/1.3", "X-Upgrade: websocket"])
def test_another_upgrade_is_not_passed_on(gateway: Running, upstream: Upstream, asks: str) -> None:
    upstream.answer = lambda seen, connection: connection.sendall(plain())
    phases = Phases()
    gateway.use(phases)
    assert gateway.request("GET", "/", asks).status == 200
    assert upstream.seen[0].values("upgrade") == []
    assert upstream.seen[0].values("connection") == [b"keep-alive"]
    assert ("response", 200) in phases.phases_of_request()


def test_silence_ends_it_after_the_service_s_read_timeout(serve: Serve, upstream: Upstream) -> None:
    upstream.answer = echoes
    gateway = serve(CONFIGURATION.format(port=upstream.port, read_timeout=200))
    with upgrade_requested(gateway) as connection:
        agreed(connection)
        connection.sendall(b"one")
        assert exactly(connection, 3) == b"one"
        assert connection.recv(1) == b""
    expected = "connection timed out: nothing was sent for 0.2 s while proxying upgraded connection, client: 127.0.0.1"
    wait_for(lambda: expected in gateway.errors.getvalue())


def test_the_end_of_the_gateway_ends_it(gateway: Running) -> None:
    phases = Phases()
    gateway.use(phases)
    with upgrade_requested(gateway) as connection:
        agreed(connection)
        gateway.loop.run(gateway.gateway.stop(grace=0))
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) == b""
    assert gateway.gateway._statistics.connections_active == 0
