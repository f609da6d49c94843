"""TCP streams: carried completely in both directions, through ``preread`` and ``log``, and ended on both sides."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from pathlib import Path

import pytest
from kong_pdk.gateway.exchange import Exchange, Exit, Refused
from kong_pdk.gateway.gateway_settings import Settings
from kong_pdk.gateway.stream.session import Session
from local_servers import free_port, tcp_service
from waiting import DEADLINE, wait_for

from .conftest import PythonPlugin, Running, Serve
from .tcp import after_the_end, configuration, connect, echo, once, read_to_end, use

STREAMS = {"stream_listen": "127.0.0.1:0"}
MEGABYTE = 1 << 20


class Logged:
    """A plugin that keeps the sessions of its ``log`` calls."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.plugin = PythonPlugin("logs", {"log": self._log})

    async def _log(self, exchange: Exchange) -> None:
        assert isinstance(exchange, Session)
        self.sessions.append(exchange)

    def one(self) -> Session:
        wait_for(lambda: bool(self.sessions))
        assert len(self.sessions) == 1
        return self.sessions[0]


def talk(running: Running, data: bytes = b"ping") -> bytes:
    """Send bytes; returns the first bytes of the answer."""
    with connect(running) as client:
        client.sendall(data)
        return client.recv(65536)


def connections(running: Running) -> int:
    return running.gateway._statistics.connections_active


def test_a_stream_without_plugins_is_passed_on(serve: Serve) -> None:
    with tcp_service(echo) as port:
        assert talk(serve(configuration(port), **STREAMS)) == b"A:ping"


def test_preread_chooses_the_target_and_log_sees_the_session(serve: Serve) -> None:
    logged = Logged()

    async def preread(exchange: Exchange) -> None:
        assert exchange.route is not None
        exchange.shared["k"] = "v"
        exchange.upstream.port = chosen

    with tcp_service(echo) as chosen:
        running = serve(configuration(free_port()), **STREAMS)
        use(running, PythonPlugin("chooses", {"preread": preread}), logged.plugin)
        assert talk(running) == b"A:ping"
        session = logged.one()
    assert (session.received, session.sent, session.upstream_sent, session.upstream_received) == (4, 6, 4, 6)
    assert (session.status, session.shared, session.phase) == (200, {"k": "v"}, "log")
    assert [(each["ip"], each["port"]) for each in session.tries] == [("127.0.0.1", chosen)]
    assert session.duration is not None


@pytest.mark.parametrize("raised", [Exit(403, None), Refused("not in preread"), KeyError("a bug")], ids=repr)
def test_a_plugin_ends_a_stream_with_a_reset(serve: Serve, raised: BaseException) -> None:
    """The client sees a reset, not an empty answer; ``log`` still runs."""
    logged = Logged()

    async def preread(exchange: Exchange) -> None:
        raise raised

    with tcp_service(echo) as port:
        running = serve(configuration(port), **STREAMS)
        use(running, PythonPlugin("ends", {"preread": preread}), logged.plugin)
        with pytest.raises(ConnectionResetError):
            talk(running)
        assert logged.one().status == (403 if isinstance(raised, Exit) else 500)
    assert isinstance(raised, Exit) or str(raised) in running.errors.getvalue()
    wait_for(lambda: connections(running) == 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('_format_version: "3.0"', "no Route found with those values"),
        (
            '{_format_version: "3.0", routes: [{name: r, protocols: [tcp], sources: [{port: 1}, {ip: 127.0.0.1}]}]}',
            "no Service found with those values",
        ),
        (configuration(1).replace("tcp://", "tls://"), "service t: protocol tls is not supported on streams"),
    ],
    ids=["route", "service", "protocol"],
)
def test_a_stream_without_a_reachable_service_is_reset(serve: Serve, text: str, message: str) -> None:
    """As in Kong, no plugin runs."""
    running, logged = serve(text, **STREAMS), Logged()
    use(running, logged.plugin)
    with pytest.raises(ConnectionResetError):
        talk(running)
    wait_for(lambda: connections(running) == 0)
    assert not logged.sessions
    assert message in running.errors.getvalue()
    assert "client: 127.0.0.1, server: 127.0.0.1:" in running.errors.getvalue()


TARGETS = """
_format_version: "3.0"
services:
- {{name: t, protocol: tcp, host: ups, port: 1, retries: {retries}, routes: [{{protocols: [tcp], destinations: [{{ip: 127.0.0.1}}]}}]}}
upstreams: [{{name: ups, targets: [{{target: "127.0.0.1:{dead}", weight: 2}}, {{target: "127.0.0.1:{live}", weight: 1}}]}}]
"""  # noqa: E501


def test_a_target_that_refuses_is_followed_by_the_next(serve: Serve) -> None:
    logged = Logged()
    with tcp_service(echo) as live:
        running = serve(TARGETS.format(retries=5, dead=free_port(), live=live), **STREAMS)
        use(running, logged.plugin)
        assert talk(running) == b"A:ping"
        tries = logged.one().tries
    assert [each.get("state") for each in tries] == ["failed", None]


def test_a_service_that_refuses_ends_the_stream(serve: Serve) -> None:
    logged = Logged()
    running = serve(TARGETS.format(retries=1, dead=(dead := free_port()), live=free_port()), **STREAMS)
    use(running, logged.plugin)
    with pytest.raises(ConnectionResetError):
        talk(running)
    assert (logged.one().status, len(logged.one().tries)) == (502, 2)
    assert f"connect() to 127.0.0.1:{dead} failed (Connect" in running.errors.getvalue()


def test_an_upstream_without_targets_ends_the_stream(serve: Serve) -> None:
    text = TARGETS.format(retries=1, dead=1, live=2).replace("weight: 2", "weight: 0").replace("weight: 1", "weight: 0")
    running = serve(text, **STREAMS)
    with pytest.raises(ConnectionResetError):
        talk(running)
    assert "failure to get a peer from the ring-balancer" in running.errors.getvalue()


def test_an_unknown_name_ends_the_stream(serve: Serve) -> None:
    running = serve(configuration(1).replace("127.0.0.1:1", "nobody.invalid:1"), **STREAMS)
    with pytest.raises(ConnectionResetError):
        talk(running)
    assert "connect() to nobody.invalid:1 failed" in running.errors.getvalue()


def test_much_data_goes_both_ways_at_once(serve: Serve) -> None:
    content = bytes(range(256)) * 4 * 1024 * 8

    def both_ways(connection: socket.socket) -> None:
        sender = threading.Thread(target=connection.sendall, args=(content,))
        sender.start()
        left = len(content)
        while left:
            left -= len(connection.recv(65536))
        sender.join(DEADLINE)

    with tcp_service(both_ways) as port, connect(serve(configuration(port), **STREAMS)) as client:
        sender = threading.Thread(target=client.sendall, args=(content,))
        sender.start()
        assert read_to_end(client) == content
        sender.join(DEADLINE)


def test_a_service_is_only_read_as_fast_as_the_client_reads(serve: Serve) -> None:
    sent: list[int] = []
    content = b"x" * 64 * MEGABYTE

    def pour(connection: socket.socket) -> None:
        view = memoryview(content)
        while view:
            size = connection.send(view[:MEGABYTE])
            sent.append(size)
            view = view[size:]

    with tcp_service(pour) as port:
        running = serve(configuration(port), **STREAMS)
        with connect(running) as client:
            wait_for(lambda: bool(sent))
            settled = -1
            while settled != sum(sent):  # Only as much as the systems' buffers hold leaves the service.
                settled = sum(sent)
                threading.Event().wait(0.2)
            assert settled < len(content)
            assert len(read_to_end(client)) == len(content)


def test_the_end_of_the_client_ends_the_session_as_in_nginx(serve: Serve) -> None:
    """proxy_half_close is off by default: the service gets all bytes of the client, and its answer is not awaited."""
    received: list[bytes] = []

    def note(connection: socket.socket) -> None:
        received.append(read_to_end(connection))

    with tcp_service(note) as port, connect(serve(configuration(port), **STREAMS)) as client:
        client.sendall(b"ping")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        wait_for(lambda: bool(received))
    assert received == [b"ping"]


@pytest.mark.parametrize("setting", ["nginx_sproxy_proxy_half_close", "nginx_stream_proxy_half_close"])
def test_half_closed_streams_go_on_if_configured(serve: Serve, setting: str) -> None:
    with tcp_service(after_the_end) as port:
        running = serve(configuration(port), **STREAMS, **{setting: "on"})
        with connect(running) as client:
            client.sendall(b"ping")
            client.shutdown(socket.SHUT_WR)
            assert read_to_end(client) == b"all of ping"
        wait_for(lambda: connections(running) == 0)


def test_an_answer_is_complete_though_the_client_keeps_sending(serve: Serve) -> None:
    """The service ends while bytes of the client are on their way: a close with unread bytes would cut the answer."""
    answer = b"y" * 4 * MEGABYTE

    with tcp_service(once(answer)) as port, connect(serve(configuration(port), **STREAMS)) as client:
        client.sendall(b"ping")
        received = bytearray(client.recv(1000))
        client.sendall(b"more that nobody reads")
        while data := client.recv(65536):
            received += data
        assert received == answer


def test_a_client_that_is_cut_off_ends_the_session(serve: Serve) -> None:
    logged = Logged()
    with tcp_service(echo) as port:
        running = serve(configuration(port), **STREAMS)
        use(running, logged.plugin)
        with connect(running) as client:
            client.sendall(b"ping")
            assert client.recv(65536)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert logged.one().received == 4
        wait_for(lambda: connections(running) == 0)


def test_a_silent_stream_ends_after_the_service_s_read_timeout(serve: Serve) -> None:
    with tcp_service(echo) as port:
        running = serve(configuration(port, "  read_timeout: 50"), **STREAMS)
        with connect(running) as client:
            assert read_to_end(client) == b""
    assert "[info] kong: connection timed out: nothing was sent for 0.05 s while proxying" in running.errors.getvalue()


def test_a_slow_log_handler_delays_no_client(serve: Serve) -> None:
    begun, go_on = threading.Event(), threading.Event()

    async def log(exchange: Exchange) -> None:
        begun.set()
        while not go_on.is_set():
            await asyncio.sleep(0.01)

    with tcp_service(lambda connection: connection.sendall(b"bye")) as port:
        running = serve(configuration(port), **STREAMS)
        use(running, PythonPlugin("slow", {"log": log}))
        with connect(running) as client:
            assert read_to_end(client) == b"bye"
            assert begun.wait(DEADLINE)
            assert connections(running) == 1
        go_on.set()
        wait_for(lambda: connections(running) == 0)


def test_a_graceful_stop_waits_for_open_streams(serve: Serve) -> None:
    with tcp_service(echo) as port:
        running = serve(configuration(port), **STREAMS)
        with connect(running) as client:
            client.sendall(b"ping")
            assert client.recv(65536)
            stopping = running.loop.start(running.gateway.stop(grace=DEADLINE))
            wait_for(lambda: _refused(running))
            client.sendall(b"again")
            assert client.recv(65536) == b"A:again"
            assert not stopping.done()
        stopping.result(DEADLINE)
    assert "cut off" not in running.errors.getvalue()


def _refused(running: Running) -> bool:
    try:
        connect(running).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # the listener was closed in this moment
        return False
    return False


def test_a_fast_stop_cuts_open_streams(serve: Serve) -> None:
    with tcp_service(echo) as port:
        running = serve(configuration(port), **STREAMS)
        with connect(running) as client:
            client.sendall(b"ping")
            assert client.recv(65536)
            running.loop.run(running.gateway.stop(graceful=False))
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    assert "[notice] kong: 1 open TCP connections were cut off" in running.errors.getvalue()


def test_a_reload_keeps_open_streams(serve: Serve, tmp_path: Path) -> None:
    with tcp_service(echo) as port, tcp_service(lambda connection: connection.sendall(b"new")) as other:
        running = serve(configuration(port), **STREAMS)
        with connect(running) as client:
            client.sendall(b"one")
            assert client.recv(65536) == b"A:one"
            (tmp_path / "kong.yml").write_text(configuration(other))
            running.loop.run(running.gateway.reload(running.gateway._settings))
            client.sendall(b"two")
            assert client.recv(65536) == b"A:two"
            with connect(running) as another:
                assert read_to_end(another) == b"new"


def test_stream_listeners_stay_until_the_next_start(serve: Serve, tmp_path: Path) -> None:
    with tcp_service(echo) as port:
        running = serve(configuration(port), **STREAMS)
        environment = {"KONG_PREFIX": str(running.prefix), "KONG_DECLARATIVE_CONFIG": str(tmp_path / "kong.yml")}
        running.loop.run(running.gateway.reload(Settings.from_environment(environment)))
        assert talk(running) == b"A:ping"
    assert "stream_listen has changed; the embedded gateway applies it at its next start" in running.errors.getvalue()


def test_the_access_log_has_a_line_for_each_stream(serve: Serve) -> None:
    with tcp_service(lambda connection: connection.sendall(b"hello")) as port:
        running = serve(configuration(port), **STREAMS)
        with connect(running) as client:
            assert read_to_end(client) == b"hello"
        wait_for(lambda: connections(running) == 0)
    assert "127.0.0.1 [" in running.access_log()
    assert "] TCP 200 5 0 0." in running.access_log()


def test_a_port_that_is_taken_is_named_with_the_hint(serve: Serve) -> None:
    with (
        tcp_service(echo) as port,
        pytest.raises(Exception, match=f"bind.. to 127.0.0.1:{port} failed .*KONG_STREAM_LISTEN"),
    ):
        serve(configuration(port), stream_listen=f"127.0.0.1:{port}")


def test_routes_for_tcp_without_a_listener_are_named(serve: Serve) -> None:
    running = serve(configuration(1))
    assert "routes for tcp are not served; set KONG_STREAM_LISTEN to an address" in running.errors.getvalue()
