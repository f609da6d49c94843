"""Clients and services that send garbage to the gateway: an answer or a closed connection, and no traceback."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_servers import ConnectionServer
from running_gateway import RunningGateway
from unit.fuzz.strategies import damaged, pieces
from waiting import DEADLINE

INPUTS = "HTTP at the embedded gateway"

MORE = settings(max_examples=settings.default.max_examples * 8)

REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a/../b?c=%20&d HTTP/1.0\r\nX-A: 1\r\nX-A: 2\r\n\r\n",
    b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    b"GET http://b.test:80/c HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: [::1]:8000\r\nX-Forwarded-For: 1, 2\r\nCookie: a=b; c\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.0 404 Not Found\r\nX: 1\r\nX: 2\r\n\r\nuntil the end",
    b"HTTP/1.1 204 No Content\r\nServer: a\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n",
]
ENDING = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
CLOSING = [each.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) for each in REQUESTS[:6]]
GOOD = b"GET /good HTTP/1.1\r\nHost: good\r\nConnection: close\r\n\r\n"

tokens = st.sampled_from([b"GET", b"get", b"POST", b"", b"G\x00T", b"A" * 40, b"\xc3\xa4", b"GET\t"])
targets = st.sampled_from(
    [
        b"/",
        b"",
        b"*",
        b"a",
        b"/%",
        b"/%zz",
        b"/%00",
        b"//",
        b"/?",
        b"/?\xff=\xc3\xa4",
        b"/\xff",
        b"/a b",
        b"/" * 9000,
    ]
)
versions = st.sampled_from(
    [
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"HTTP/0.9",
        b"HTTP/2",
        b"HTTP/1.11",
        b"http/1.1",
        b"",
        b"HTTP/x",
    ]
)
headers = st.sampled_from(
    [
        b"Host: a",
        b"Host: a\r\nHost: b",
        b"Host:",
        b"Host: a b",
        b"Host: \xff",
        b"Host: a:99999",
        b"Host: [::",
        b"Content-Length: 3",
        b"Content-Length: -1",
        b"Content-Length: x",
        b"Content-Length: 3, 3",
        b"Content-Length: 3\r\nContent-Length: 4",
        b"Content-Length: 99999999999999999999999999",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: chunked, chunked",
        b"Connection: close",
        b"Connection: \x00",
        b"Connection: upgrade\r\nUpgrade: h2c",
        b"Expect: nothing",
        b"X",
        b" folded",
        b": no name",
        b"X y: 1",
        b"X: " + b"z" * 9000,
        b"X:\xff\xfe",
        b"X: a\x00b",
        b"X: a\rb",
        b"Accept: application/json",
        b"Content-Type: application/grpc",
        b"Te: trailers",
        b'Forwarded: "',
    ]
)
bodies = st.sampled_from(
    [
        b"",
        b"abc",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"zz\r\n",
        b"3\r\nabcd\r\n",
        b"-1\r\n\r\n",
        b"fffffffffffffffff\r\n",
    ]
)


@st.composite
def built(draw: st.DrawFn) -> bytes:
    """A request of parts that are each wrong in some way, or right."""
    lines = [
        b" ".join([draw(tokens), draw(targets), draw(versions)]),
        *draw(st.lists(headers, max_size=5)),
    ]
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\n"]))
    return end.join([*lines, b"", b""]) + draw(bodies)


def anything(whole: list[bytes]) -> st.SearchStrategy[bytes]:
    samples = st.sampled_from(whole)
    return st.one_of(samples.flatmap(damaged), samples, st.binary(max_size=200))


class Service:
    """A service that answers each connection's first bytes with ``answer``, and reads to the end of the connection."""

    def __init__(self) -> None:
        self.answer = ENDING
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self._server = ConnectionServer(listener, self._serve)
        self.close = self._server.close

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(self.answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


@pytest.fixture(scope="module")
def gateway(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that all tests of this module share: a damage by one test shows in the next tests."""
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "kong.yml").write_text(
        '_format_version: "3.0"\n'
        f"services: [{{name: s, url: 'http://127.0.0.1:{service.port}', routes: [{{paths: [/]}}]}}]\n"
    )
    with (
        RunningGateway(folder, {"KONG_DECLARATIVE_CONFIG": str(folder / "kong.yml")}) as gateway,
        unseen_by_asyncio(),
    ):
        yield gateway


@contextlib.contextmanager
def unseen_by_asyncio() -> Iterator[None]:
    """Check that no exception was left to asyncio, which writes tracebacks to standard error."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("asyncio").addHandler(handler)
    yield
    logging.getLogger("asyncio").removeHandler(handler)
    assert [record.getMessage() for record in records] == []


def talk(gateway: RunningGateway, sent: list[bytes]) -> bytes:
    """Send pieces and the end, and read to the end of the connection, which must come."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", gateway.port), DEADLINE) as connection:
        with contextlib.suppress(OSError):  # it is closed while this side still sends
            for piece in sent:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):  # closing with unread bytes is a reset
            while data := connection.recv(65536):
                received += data
    return bytes(received)


def serves(gateway: RunningGateway) -> None:
    """Check that a good request is served, and that the log is free of tracebacks and defects."""
    assert gateway.send(GOOD).startswith(b"HTTP/1.1 200 OK\r\n")
    log = gateway.log.read_text()
    assert "Traceback" not in log
    assert not re.search(r"defect|Error\(|exception", log), log


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]


@MORE
@given(st.data())
def test_a_client_that_sends_garbage_gets_an_answer_or_the_end(
    gateway: RunningGateway, service: Service, data: st.DataObject
) -> None:
    service.answer = ENDING
    request = st.one_of(anything(REQUESTS), built())
    received = talk(
        gateway,
        data.draw(pieces(b"".join(data.draw(st.lists(request, min_size=1, max_size=3))))),
    )
    assert not received or received.startswith(b"HTTP/1.")
    assert not {status for status in statuses(received) if status >= 500} - {501, 505}
    serves(gateway)


@MORE
@given(st.data())
def test_a_service_that_answers_with_garbage_costs_its_own_request_alone(
    gateway: RunningGateway, service: Service, data: st.DataObject
) -> None:
    service.answer = b"".join(data.draw(st.lists(anything(ANSWERS), min_size=1, max_size=2)))
    received = gateway.send(data.draw(st.sampled_from(CLOSING)))
    assert statuses(received)
    service.answer = ENDING
    serves(gateway)
