"""The phase ``certificate``: plugins let a TLS handshake continue or fail, and no client can delay others in it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
from kong_pdk.gateway import handshake
from kong_pdk.gateway.exchange import Exchange, Exit, Refused
from kong_pdk.gateway.handshake import Handshake
from replies import Reply
from waiting import DEADLINE, wait_for

from .conftest import PythonPlugin, Running, Serve, Upstream, read_reply
from .test_client_hello import hello

LISTEN = {"proxy_listen": "127.0.0.1:0 ssl"}


def insecure() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextlib.contextmanager
def secured(running: Running, name: str | None = "a.test") -> Iterator[ssl.SSLSocket]:
    with running.connect() as plain, insecure().wrap_socket(plain, server_hostname=name) as connection:
        yield connection


def get(running: Running, name: str | None = "a.test") -> Reply:
    with secured(running, name) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        return read_reply(connection)


class Certificate:
    """A plugin that records its handshakes, and raises ``raised`` if given."""

    def __init__(self, raised: BaseException | None = None) -> None:
        self.seen: list[Handshake] = []
        self._raised = raised
        self.plugin = PythonPlugin("cert", {"certificate": self._certificate})

    async def _certificate(self, exchange: Exchange) -> None:
        assert isinstance(exchange, Handshake)
        self.seen.append(exchange)
        exchange.shared["k"] = "v"
        if self._raised is not None:
            raise self._raised


@pytest.fixture
def running(serve: Serve, upstream: Upstream) -> Running:
    return serve(
        f'{{_format_version: "3.0", services: [{{name: s, url: "http://127.0.0.1:{upstream.port}", '
        "routes: [{name: r, paths: [/]}]}]}",
        **LISTEN,
    )


@pytest.mark.parametrize("name", ["a.test", None])
def test_an_accepted_handshake(running: Running, name: str | None) -> None:
    plugin = Certificate()
    running.use(plugin.plugin)
    assert get(running, name).status == 200
    (seen,) = plugin.seen
    assert (seen.server_name, seen.phase, seen.subsystem, seen.request.client_ip) == (
        name, "certificate", "http", "127.0.0.1",
    )  # fmt: skip


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_negotiated_version(running: Running, version: ssl.TLSVersion) -> None:
    plugin = Certificate()
    running.use(plugin.plugin)
    context = insecure()
    context.maximum_version = version
    with running.connect() as plain, context.wrap_socket(plain) as connection:
        spoken = connection.version()
    assert [seen.request.tls_version for seen in plugin.seen] == [spoken]


@pytest.mark.parametrize("raised", [Exit(403, None), Refused("not in certificate"), KeyError("a bug")], ids=repr)
def test_a_handshake_that_a_plugin_fails(running: Running, upstream: Upstream, raised: BaseException) -> None:
    plugin = Certificate(raised)
    running.use(plugin.plugin)
    with pytest.raises(ssl.SSLError, match=r"(?i)internal.error"):
        get(running)
    assert not upstream.seen
    if not isinstance(raised, Exit):
        assert str(raised) in running.errors.getvalue()
        assert isinstance(raised, KeyError) or 'server name: "a.test"' in running.errors.getvalue()


def test_shared_values_of_the_handshake_are_not_the_request_s(running: Running) -> None:
    shared: list[dict[str, object]] = []

    async def access(exchange: Exchange) -> None:
        shared.append(dict(exchange.shared))

    running.use(Certificate().plugin, PythonPlugin("access", {"access": access}))
    assert get(running).status == 200
    assert shared == [{}]


def test_without_a_plugin_for_the_phase_no_bytes_are_read(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def peek(connection: socket.socket) -> None:
        raise AssertionError("a connection was looked at")

    monkeypatch.setattr(handshake, "peek", peek)
    assert get(running).status == 200


def test_a_hello_in_single_bytes(running: Running) -> None:
    plugin = Certificate(Refused("no"))
    running.use(plugin.plugin)
    with running.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in hello():
            connection.sendall(bytes((byte,)))
        assert connection.recv(100) == bytes((21, 3, 3, 0, 2, 2, 80))
        assert connection.recv(100) == b""
    assert [seen.server_name for seen in plugin.seen] == ["a.test"]


def test_other_bytes_than_tls_reach_no_plugin(running: Running) -> None:
    plugin = Certificate()
    running.use(plugin.plugin)
    with running.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(100):
                continue
    assert get(running).status == 200
    assert len(plugin.seen) == 1


def test_a_silent_client_is_disconnected(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_TIMEOUT", 0.05)
    plugin = Certificate()
    running.use(plugin.plugin)
    with running.connect() as connection:
        assert connection.recv(1) == b""
    with running.connect() as connection:
        connection.sendall(hello()[:-1])
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    assert not plugin.seen


def test_a_client_that_leaves_before_its_hello_is_whole(running: Running) -> None:
    plugin = Certificate()
    running.use(plugin.plugin)
    with running.connect() as connection:
        connection.sendall(hello()[:-1])
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    assert get(running).status == 200
    assert len(plugin.seen) == 1


def test_a_slow_handshake_delays_no_other_client(running: Running) -> None:
    go_on, started = threading.Event(), threading.Event()

    async def certificate(exchange: Exchange) -> None:
        assert isinstance(exchange, Handshake)
        if exchange.server_name == "slow.test":
            started.set()
            while not go_on.is_set():
                await asyncio.sleep(0.01)

    running.use(PythonPlugin("slow", {"certificate": certificate}))
    statuses: list[int] = []
    slow = threading.Thread(target=lambda: statuses.append(get(running, "slow.test").status))
    slow.start()
    assert started.wait(DEADLINE)
    assert get(running, "fast.test").status == 200
    assert not statuses
    go_on.set()
    slow.join(DEADLINE)
    assert statuses == [200]


def test_a_stop_waits_for_no_handshake(running: Running) -> None:
    running.use(Certificate().plugin)
    with running.connect() as silent, secured(running) as connection:
        running.loop.run(running.gateway.stop(grace=DEADLINE))
        for each in (silent, connection):
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(1) == b""
    wait_for(lambda: running.gateway._statistics.connections_active == 0)


def test_keep_alive_requests_of_one_handshake_each_have_their_own_log(running: Running, upstream: Upstream) -> None:
    """A log handler sees its own request, also after later requests on the connection."""
    logged: list[tuple[bytes, list[bytes], int | None]] = []

    async def log(exchange: Exchange) -> None:
        numbers = [value for name, value in exchange.request.headers if name.lower() == b"x-n"]
        await asyncio.sleep(0.01)  # The next request comes meanwhile.
        logged.append((exchange.request.raw_path, numbers, exchange.response.status))

    plugin = Certificate()
    running.use(plugin.plugin, PythonPlugin("log", {"log": log}))
    with secured(running) as connection:
        for number in range(3):
            connection.sendall(f"GET /{number} HTTP/1.1\r\nHost: a.test\r\nX-N: {number}\r\n\r\n".encode())
            assert read_reply(connection).status == 200
    wait_for(lambda: len(logged) == 3)
    assert sorted(logged) == [(f"/{n}".encode(), [str(n).encode()], 200) for n in range(3)]
    assert len(plugin.seen) == 1
