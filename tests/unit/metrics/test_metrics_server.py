"""The HTTP server of the metrics: what it answers, and what it survives."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator

import pytest
from kong_pdk.metrics import metrics_server as served
from kong_pdk.metrics.metrics_server import MetricsServer
from kong_pdk.settings import Address
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from waiting import DEADLINE


class Answer42(Collector):
    """One metric; raises where it is told to."""

    broken = False

    def collect(self) -> Iterator[Metric]:
        if self.broken:
            raise ZeroDivisionError("a defect")
        yield GaugeMetricFamily("answer", "The answer", value=42)


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    """Serve on a free port."""
    made = MetricsServer(Address("127.0.0.1", 0), Answer42())
    thread = threading.Thread(target=made.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.shutdown()
    thread.join(DEADLINE)
    made.server_close()


def connect(server: MetricsServer) -> socket.socket:
    return socket.create_connection(server.server_address[:2], DEADLINE)  # type: ignore[arg-type]


def ask(
    server: MetricsServer, path: str = "/metrics", method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=DEADLINE)  # type: ignore[arg-type]
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    return response, response.read().decode()


def raw(server: MetricsServer, data: bytes) -> bytes:
    """Send bytes; returns all bytes until the connection ends."""
    with connect(server) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while data := client.recv(65536):
            received += data
        return received


def works(server: MetricsServer) -> bool:
    return [family.name for family in text_string_to_metric_families(ask(server)[1])] == ["answer"]


def test_metrics_are_prometheus_text(server: MetricsServer) -> None:
    response, text = ask(server)
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    (family,) = text_string_to_metric_families(text)
    assert (family.name, family.samples[0].value) == ("answer", 42)


def test_a_query_does_not_matter(server: MetricsServer) -> None:
    assert ask(server, "/metrics?now")[0].status == 200


def test_openmetrics_is_given_to_who_wants_it(server: MetricsServer) -> None:
    response, text = ask(server, Accept="application/openmetrics-text; version=1.0.0")
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


@pytest.mark.parametrize("accept", ["text/plain; version=x.y", "application/openmetrics-text;version=;", ";;,=", "*/*"])
def test_an_odd_wish_gets_something(server: MetricsServer, accept: str) -> None:
    assert ask(server, Accept=accept)[0].status == 200


def test_head_is_get_without_the_content(server: MetricsServer) -> None:
    response, text = ask(server, method="HEAD")
    assert (response.status, text) == (200, "")
    assert int(response.headers["Content-Length"]) == len(ask(server)[1])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_refused(server: MetricsServer, method: str) -> None:
    response, _ = ask(server, method=method)
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


def test_the_index_names_the_path(server: MetricsServer) -> None:
    assert "/metrics" in ask(server, "/")[1]


@pytest.mark.parametrize("path", ["/metricsx", "/metrics/", "/../etc/passwd", "http://elsewhere/metrics"])
def test_there_is_nothing_else(server: MetricsServer, path: str) -> None:
    assert ask(server, path)[0].status == 404


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00\xff" * 5000,
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"\r\n",
        b"GET /metrics HTTP/1.1\r\nAccept: \xff\xfe\r\n\r\n",
    ],
    ids=["nothing", "empty", "tls", "noise", "version", "long", "headers", "bytes"],
)
def test_garbage_is_not_logged_and_later_requests_are_answered(
    server: MetricsServer, data: bytes, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        answer = raw(server, data)
    except OSError:  # it did not want to read all of it
        answer = b""
    assert b"Traceback" not in answer
    assert works(server)
    assert (caplog.text, capsys.readouterr().err) == ("", "")


def test_a_client_that_leaves_is_not_logged(
    server: MetricsServer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(20):
        with connect(server) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    assert works(server)
    assert (caplog.text, capsys.readouterr().err) == ("", "")


def test_a_defect_is_logged_and_later_requests_are_answered(
    server: MetricsServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(server.collector, Answer42)
    server.collector.broken = True
    assert raw(server, b"GET /metrics HTTP/1.1\r\n\r\n") == b""
    server.collector.broken = False
    assert works(server)
    assert "a request for metrics failed" in caplog.text


def test_a_slow_client_keeps_nobody_waiting(server: MetricsServer) -> None:
    with connect(server) as slow:
        slow.sendall(b"GET /met")
        assert works(server)


def test_a_connection_that_lasts_too_long_is_ended(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "_LONGEST_SECONDS", 0.1)
    with connect(server) as slow:
        slow.sendall(b"GET /met")
        assert slow.recv(100) == b""


def test_a_connection_that_is_gone_already_ends_nothing_else(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(server) as late:
        late.sendall(b"GET /met")
        gone = socket.socket()  # never connected: nothing to shut down
        server._since[gone] = 0.0
        monkeypatch.setattr(served, "_LONGEST_SECONDS", 0.1)
        assert late.recv(100) == b""
    gone.close()
    monkeypatch.setattr(served, "_LONGEST_SECONDS", 30.0)
    assert works(server)


def test_too_many_connections_are_closed_and_make_room_again(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "_MOST_CONNECTIONS", 3)
    holders = [connect(server) for _ in range(3)]
    for holder in holders:
        holder.sendall(b"GET /met")
    with connect(server) as one_more:
        assert one_more.recv(100) == b""
    for holder in holders:
        holder.close()
    waiting = threading.Event()
    for _ in range(1000):
        if not server._since:
            break
        waiting.wait(0.02)
    assert works(server)


def test_a_name_is_an_address_too() -> None:
    MetricsServer(Address("localhost", 0), Answer42()).server_close()


def test_an_address_that_is_taken_is_an_error(server: MetricsServer) -> None:
    with pytest.raises(OSError, match="in use"):
        MetricsServer(Address("127.0.0.1", server.server_address[1]), Answer42())
