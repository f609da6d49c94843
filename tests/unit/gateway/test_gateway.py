"""Starting, reloading and stopping a gateway, its status endpoint and its TLS listener."""

from __future__ import annotations

import io
import json
import re
import socket
import ssl
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from kong_pdk.gateway.exchange import Exchange
from kong_pdk.gateway.gateway import Gateway, GatewayError
from kong_pdk.gateway.gateway_settings import Settings
from kong_pdk.gateway.nginx_logs import ErrorLog, Stream
from kong_pdk.gateway.tls import default_certificate
from waiting import DEADLINE, wait_for

from .conftest import Loop, PythonPlugin, Running, Seen, Serve, Upstream, plain, read_reply

EMPTY = '_format_version: "3.0"\n'


def answering(text: str) -> str:
    """A configuration with a route for ``/text``; requests for other paths get another status."""
    return f'_format_version: "3.0"\nroutes:\n- paths: [/{text}]\n'


def settings(folder: Path, **more: str) -> Settings:
    environment = {
        "KONG_PREFIX": str(folder / "prefix"),
        "KONG_PROXY_LISTEN": "127.0.0.1:0",
        "KONG_STATUS_LISTEN": "off",
        **{f"KONG_{name.upper()}": value for name, value in more.items()},
    }
    return Settings.from_environment(environment)


def test_the_log_says_that_the_gateway_is_not_kong(serve: Serve) -> None:
    errors = serve(EMPTY).errors.getvalue()
    assert re.search(
        r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[notice\] kong: .*embedded gateway for development and tests, not Kong$",
        errors,
        re.MULTILINE,
    )


def test_an_admin_listener_is_skipped_with_a_message(serve: Serve) -> None:
    assert serve(EMPTY, admin_listen="127.0.0.1:8001").errors.getvalue().count("no Admin API") == 1


def test_a_port_in_use_is_named(tmp_path: Path, loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        gateway = Gateway(settings(tmp_path, proxy_listen=f"127.0.0.1:{port}"), environment={})
        with pytest.raises(GatewayError, match=rf"^bind\(\) to 127\.0\.0\.1:{port} failed"):
            loop.run(gateway.start())
    assert gateway.addresses == []


def test_a_wrong_configuration_stops_the_start(tmp_path: Path, loop: Loop) -> None:
    file = tmp_path / "kong.yml"
    file.write_text(EMPTY + "services:\n- nam: x\n")
    gateway = Gateway(settings(tmp_path, declarative_config=str(file)), environment={})
    with pytest.raises(GatewayError, match=re.escape(f"{file}:3: in services 1: in nam: unknown field")):
        loop.run(gateway.start())


def test_an_invalid_interface_file_stops_the_start(tmp_path: Path, loop: Loop) -> None:
    """Kong reads the file at each start and cannot use ProtoBuf:1 without it."""
    file, prefix = tmp_path / "pluginsocket.proto", tmp_path / "prefix"
    file.write_text("message None {}")
    wrong = replace(settings(prefix), interface_file=file)
    with pytest.raises(GatewayError, match=re.escape(f"{file} is not Kong's interface file: it has no service")):
        loop.run(Gateway(wrong, environment={}).start())


def test_an_interface_file_that_is_broken_later_leaves_the_old_configuration(serve: Serve, tmp_path: Path) -> None:
    running = serve(answering("a"))
    file = tmp_path / "pluginsocket.proto"
    file.write_text("service Kong {")
    new = settings(tmp_path, declarative_config=str(tmp_path / "kong.yml"))
    with pytest.raises(GatewayError, match="has no end"):
        running.loop.run(running.gateway.reload(replace(new, interface_file=file)))
    assert running.request("GET", "/a").status == 503


def test_several_listeners_serve_the_same_routes(serve: Serve, upstream: Upstream) -> None:
    running = serve(EMPTY, proxy_listen="127.0.0.1:0, 127.0.0.1:0 ssl")
    first, second = running.gateway.addresses
    assert (first.ssl, second.ssl) == (False, True)
    assert running.request("GET", "/").status == 404


def test_tls_with_a_self_signed_certificate(simple: Running, serve: Serve, upstream: Upstream) -> None:
    running = serve(
        f'_format_version: "3.0"\nservices:\n- url: http://127.0.0.1:{upstream.port}\n  routes:\n  - paths: [/]\n',
        proxy_listen="127.0.0.1:0 ssl",
    )
    certificate, key = running.prefix / "ssl" / "kong-default.crt", running.prefix / "ssl" / "kong-default.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    context = ssl.create_default_context(cafile=str(certificate))
    with (
        running.connect() as plain_connection,
        context.wrap_socket(plain_connection, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n\r\n")
        assert read_reply(connection).status == 200
    assert upstream.seen[0].values("x-forwarded-proto") == [b"https"]
    before = certificate.read_bytes()
    serve(EMPTY, proxy_listen="127.0.0.1:0 ssl")
    assert certificate.read_bytes() == before


def test_a_missing_certificate(tmp_path: Path, loop: Loop) -> None:
    wrong = settings(tmp_path, proxy_listen="127.0.0.1:0 ssl", ssl_cert="/none.crt", ssl_cert_key="/none.key")
    with pytest.raises(GatewayError, match=r"ssl_cert: no such file at /none\.crt; correct KONG_SSL_CERT"):
        loop.run(Gateway(wrong, environment={}).start())


def test_an_upstream_over_tls(serve: Serve, upstream: Upstream, tmp_path: Path) -> None:
    """One gateway is the upstream of another, over TLS."""
    inner = serve(
        f'_format_version: "3.0"\nservices:\n- url: http://127.0.0.1:{upstream.port}\n  routes:\n  - paths: [/]\n',
        proxy_listen="127.0.0.1:0 ssl",
    )
    port = inner.gateway.addresses[0].port
    config = '_format_version: "3.0"\nservices:\n- url: https://127.0.0.1:{}\n  {}\n  routes:\n  - paths: [/]\n'
    assert serve(config.format(port, "retries: 0")).request("GET", "/").status == 200
    assert serve(config.format(port, "retries: 0\n  tls_verify: true")).request("GET", "/").status == 502


def test_reload_takes_the_new_configuration(serve: Serve) -> None:
    running = serve(answering("a"))
    assert running.request("GET", "/a").status == 503
    file = running.prefix.parent / "kong.yml"
    file.write_text(answering("b"))
    running.loop.run(running.gateway.reload(settings(file.parent, declarative_config=str(file))))
    assert (running.request("GET", "/a").status, running.request("GET", "/b").status) == (404, 503)


def test_a_wrong_reload_leaves_the_old_configuration(serve: Serve) -> None:
    running = serve(answering("a"))
    file = running.prefix.parent / "kong.yml"
    file.write_text("routes: 5\n")
    with pytest.raises(GatewayError, match="_format_version"):
        running.loop.run(running.gateway.reload(settings(file.parent, declarative_config=str(file))))
    assert running.request("GET", "/a").status == 503


def test_a_request_in_flight_keeps_its_configuration(simple: Running, upstream: Upstream) -> None:
    requested, go_on = threading.Event(), threading.Event()
    seen_routes: list[str | None] = []
    over = threading.Event()

    async def log(exchange: Exchange) -> None:
        seen_routes.append(exchange.route.name if exchange.route else None)
        assert exchange.node.config.routes
        over.set()

    def answer(seen: Seen, connection: socket.socket) -> None:
        requested.set()
        assert go_on.wait(DEADLINE)
        connection.sendall(plain(b"old"))

    upstream.answer = answer
    simple.use(PythonPlugin("p", {"log": log}))
    with simple.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert requested.wait(DEADLINE)
        simple.loop.run(simple.gateway.reload(settings(simple.prefix.parent)))
        assert simple.request("GET", "/").status == 404
        go_on.set()
        assert read_reply(connection).body == b"old"
    assert over.wait(DEADLINE)
    assert seen_routes == ["r"]


def test_stop_lets_requests_finish(simple: Running, upstream: Upstream) -> None:
    requested, go_on = threading.Event(), threading.Event()

    def answer(seen: Seen, connection: socket.socket) -> None:
        requested.set()
        assert go_on.wait(DEADLINE)
        connection.sendall(plain(b"done"))

    upstream.answer = answer
    with simple.connect() as connection, simple.connect() as idle:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert requested.wait(DEADLINE)
        port = simple.port
        stopping = simple.loop.start(simple.gateway.stop(DEADLINE))
        # When the idle connection is closed, the listener is closed, too.
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        go_on.set()
        assert read_reply(connection).body == b"done"
        stopping.result(DEADLINE)


def test_a_stop_serves_the_first_request_of_a_new_connection(
    simple: Running, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that could connect gets an answer, also if its request is still on the way."""
    monkeypatch.setattr("kong_pdk.gateway.http_protocol.FIRST_REQUEST", DEADLINE)
    port = simple.port
    with simple.connect() as connection:
        stopping = simple.loop.start(simple.gateway.stop(DEADLINE))
        wait_for(lambda: not accepts(port))
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_reply(connection).status == 200
        assert connection.recv(1) == b""
    stopping.result(DEADLINE)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), DEADLINE).close()
    except ConnectionError:
        return False
    return True


def test_a_fast_stop_ends_a_graceful_stop(simple: Running, upstream: Upstream) -> None:
    requested, go_on = threading.Event(), threading.Event()

    def answer(seen: Seen, connection: socket.socket) -> None:
        requested.set()
        go_on.wait(DEADLINE)

    upstream.answer = answer
    with simple.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert requested.wait(DEADLINE)
        patient = simple.loop.start(simple.gateway.stop(600))
        simple.loop.run(simple.gateway.stop(graceful=False))
        patient.result(DEADLINE)
    go_on.set()


def test_stop_twice_and_before_start(tmp_path: Path, loop: Loop) -> None:
    gateway = Gateway(settings(tmp_path), environment={})
    loop.run(gateway.stop())
    loop.run(gateway.start())
    loop.run(gateway.stop())
    loop.run(gateway.stop())


def status(running: Running, path: str, method: str = "GET") -> tuple[int, dict[str, object]]:
    port = running.gateway.status_addresses[0].port
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        reply = read_reply(connection, method)
    return reply.status, json.loads(reply.body)


def test_status(serve: Serve) -> None:
    running = serve(answering("a"), status_listen="127.0.0.1:0")
    running.request("GET", "/")
    code, document = status(running, "/status")
    assert code == 200
    server = document["server"]
    assert isinstance(server, dict)
    assert (server["total_requests"], server["connections_accepted"]) == (1, 1)
    assert status(running, "/status/ready") == (200, {"message": "ready"})


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/services"), ("POST", "/status")])
def test_the_status_listener_only_serves_status(serve: Serve, method: str, path: str) -> None:
    running = serve(answering("a"), status_listen="127.0.0.1:0")
    assert status(running, path, method) == (404, {"message": "Not found"})


def test_without_a_configuration_it_is_not_ready(serve: Serve) -> None:
    code, document = status(serve(EMPTY, status_listen="127.0.0.1:0"), "/status/ready")
    assert (code, document) == (503, {"message": "no configuration available (empty configuration present)"})


def test_a_log_file_that_cannot_be_opened(tmp_path: Path, loop: Loop) -> None:
    (tmp_path / "prefix").mkdir()
    (tmp_path / "prefix" / "logs").write_text("in the way")
    with pytest.raises(GatewayError, match=r"proxy_error_log: cannot open .*; set KONG_PROXY_ERROR_LOG"):
        loop.run(Gateway(settings(tmp_path), environment={}).start())


def test_a_closed_log_does_no_harm() -> None:
    class Gone:
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None: ...

    ErrorLog(Stream(Gone()), "info").write("error", "x")  # type: ignore[arg-type]


def test_the_error_log_has_its_level_and_form() -> None:
    text = io.StringIO()
    log = ErrorLog(Stream(text), "warn")
    log.write("notice", "too low")
    log.write("error", "one\ntwo \udcff")
    log.set_level("info")
    log.write("info", "three")
    lines = [line.partition(" [")[2] for line in text.getvalue().splitlines()]
    assert lines == ["error] kong: one", "error] kong: two \\udcff", "info] kong: three"]


def test_reload_takes_a_new_certificate_and_names_unchanged_settings(serve: Serve, tmp_path: Path) -> None:
    running = serve(EMPTY, proxy_listen="127.0.0.1:0 ssl")
    certificate, key = default_certificate(tmp_path / "other")
    assert served_certificate(running.port) == (running.prefix / "ssl" / "kong-default.crt").read_text()
    changed = settings(
        tmp_path, proxy_listen="127.0.0.1:9", ssl_cert=str(certificate), ssl_cert_key=str(key), log_level="error"
    )
    running.loop.run(running.gateway.reload(changed))
    assert served_certificate(running.port) == certificate.read_text()
    assert running.errors.getvalue().count("proxy_listen has changed") == 1


def served_certificate(port: int) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), DEADLINE) as connection,
        context.wrap_socket(connection) as secured,
    ):
        found = secured.getpeercert(binary_form=True)
        # A request, so that the handshake is not cut off.
        secured.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert read_reply(secured).status == 404
    assert found is not None
    return ssl.DER_cert_to_PEM_cert(found)


def test_a_prefix_that_cannot_hold_a_certificate(tmp_path: Path, loop: Loop) -> None:
    (tmp_path / "prefix" / "logs").mkdir(parents=True)
    (tmp_path / "prefix" / "ssl").write_text("in the way")
    with pytest.raises(GatewayError, match=r"cannot write a certificate to .*; set KONG_PREFIX"):
        loop.run(Gateway(settings(tmp_path, proxy_listen="127.0.0.1:0 ssl"), environment={}).start())
