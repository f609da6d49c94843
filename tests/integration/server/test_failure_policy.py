"""What a client gets when a plugin fails: the table of docs/failures.md, a test for each of its cells.

A gateway, the plugin's server as a process, and a client, in each phase, over both protocols, for a plugin that fails
closed and one that fails open.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shlex
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_kong import ProtobufKong
from kong_pdk.protocol import PHASES
from kong_pdk.wire.interface import EXTENDED, as_text
from local_servers import Answer, ConnectionServer, http_service
from programs import PLUGINSERVER
from running_gateway import RunningGateway, parse_response
from server_process import Served, Start, output_of, starting
from waiting import DEADLINE, wait_for

PLUGIN = """
import os
import time

class Plugin:
    def __init__(self, config):
        self.config = config

    def fail(self, kong, phase):
        if self.config["phase"] != phase:
            return
        if self.config["how"] == "hold":
            open(self.config["file"] + ".begun", "w").close()
            while not os.path.exists(self.config["file"]):
                time.sleep(0.01)
        if self.config["how"] == "raise":
            raise ValueError("broken")
        if self.config["how"] == "argument":
            kong.ip.is_trusted(object())
        if self.config["how"] == "late":
            while True:
                time.sleep(0.01)
        if self.config["how"] == "die":
            os._exit(3)

    def certificate(self, kong):
        self.fail(kong, "certificate")

    def rewrite(self, kong):
        self.fail(kong, "rewrite")

    def access(self, kong):
        self.fail(kong, "access")

    def response(self, kong):
        self.fail(kong, "response")

    def preread(self, kong):
        self.fail(kong, "preread")

    def log(self, kong):
        self.fail(kong, "log")

Schema = [{"phase": {"type": "string"}}, {"how": {"type": "string"}}, {"file": {"type": "string"}}]
"""
FAILURES = ["raise", "argument", "late", "die"]
GONE = ["down", "garbage"]
REQUESTS = ("rewrite", "access", "response")
PASSES, FAILS = "passes", "fails"
MESSAGES = {500: "An unexpected error occurred", 503: "The server is overloaded"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("failures")
    (folder / "plugins").mkdir()
    (folder / "plugins/probe.py").write_text(PLUGIN)
    (folder / "interface").write_text(as_text(EXTENDED), "utf-8")
    for protocol in ("msgpack", "protobuf"):
        command = (PLUGINSERVER, "-d", folder / "plugins", "--dump-plugin-info", "probe", "--protocol", protocol)
        (folder / protocol).write_text(output_of(*command))
    return folder


def serve(start: Start, folder: Path, policy: str, **environment: str) -> Served:
    """Run the server of the plugin."""
    return start(
        PLUGINSERVER, "-d", folder / "plugins", "--plugin", "probe", KONG_PYTHON_ON_ERROR=policy,
        KONG_PYTHON_INTERFACE_FILE=str(folder / "interface"), **environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[dict[tuple[str, bool], Served]]:
    """A server for each policy, for the failures that it survives; and one with a short timeout, for what is late."""
    with contextlib.ExitStack() as running:
        served = {}
        for policy, is_late in itertools.product(("closed", "open"), (False, True)):
            prefix = folder / f"{policy}-{is_late}"
            prefix.mkdir()
            timeout = "0.3" if is_late else "30"
            start = running.enter_context(starting(prefix))
            served[policy, is_late] = serve(start, folder, policy, KONG_PYTHON_TIMEOUT=timeout)
        yield served


class Client:
    """A client of the gateway, in front of an HTTP and a TCP service."""

    def __init__(self, gateway: RunningGateway) -> None:
        self._gateway = gateway
        self._plain, self._secure, self._stream = gateway.addresses

    def get(self) -> tuple[int, dict[str, str], bytes]:
        raw = self._gateway.send(b"GET / HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\nConnection: close\r\n\r\n")
        status, headers, body = parse_response(raw)
        return status, dict(headers), body

    def shake_hands(self) -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(self._secure, DEADLINE) as plain:
            try:
                context.wrap_socket(plain, server_hostname="a.test").close()
            except (ssl.SSLError, OSError):
                return False
        return True

    def talk(self) -> bool:
        """Whether a stream is relayed."""
        try:
            with socket.create_connection(self._stream, DEADLINE) as connection:
                connection.sendall(b"ping")
                return connection.recv(100) == b"pong"
        except OSError:
            return False

    def outcome(self, phase: str, failed: int = 500) -> str:
        """Whether what runs a phase passes or fails, as the client sees it.

        :param failed: the status of a request that fails.
        """
        if phase == "certificate":
            return PASSES if self.shake_hands() else FAILS
        if phase == "preread":
            return PASSES if self.talk() else FAILS
        status, headers, body = self.get()
        if status == 200:
            return PASSES
        assert status == failed
        page = json.loads(body)
        assert page.keys() == {"message", "request_id"}
        assert page["message"] == MESSAGES[status]
        assert headers.get("Retry-After") == ("1" if status == 503 else None)
        return FAILS


def pong(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"pong")


@contextlib.contextmanager
def client_of(prefix: Path, interface: Path, socket_path: Path, config: dict[str, str]) -> Iterator[Client]:
    """Run a gateway with the plugin, whose dump is in the prefix."""
    listener = socket.create_server(("127.0.0.1", 0))
    stream = ConnectionServer(listener, pong)
    try:
        with http_service(lambda request: Answer(200, (), b"ok")) as port:
            (prefix / "kong.yml").write_text(
                json.dumps(
                    {
                        "_format_version": "3.0",
                        "services": [
                            {"name": "h", "url": f"http://127.0.0.1:{port}", "routes": [{"paths": ["/"]}]},
                            {
                                "name": "t",
                                "url": f"tcp://127.0.0.1:{listener.getsockname()[1]}",
                                "routes": [{"protocols": ["tcp"], "sources": [{"ip": "127.0.0.1"}]}],
                            },
                        ],
                        "plugins": [{"name": "probe", "config": config, "protocols": ["http", "https", "tcp"]}],
                    }
                )
            )
            environment = {
                "KONG_DECLARATIVE_CONFIG": str(prefix / "kong.yml"),
                "KONG_PROXY_LISTEN": "127.0.0.1:0, 127.0.0.1:0 ssl",
                "KONG_STREAM_LISTEN": "127.0.0.1:0",
                "KONG_PLUGINS": "probe",
                "KONG_PLUGINSERVER_NAMES": "probe",
                "KONG_PLUGINSERVER_PROBE_SOCKET": str(socket_path),
                "KONG_PLUGINSERVER_PROBE_QUERY_CMD": f"cat {shlex.quote(str(prefix / 'dump'))}",
            }
            (prefix / "gateway").mkdir()
            with RunningGateway(prefix / "gateway", environment, interface) as gateway:
                yield Client(gateway)
    finally:
        stream.close()


Connect = Callable[..., Client]


@pytest.fixture(params=["protobuf", "msgpack"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(folder: Path, tmp_path: Path, protocol: str) -> Iterator[Connect]:
    """Run a gateway for a server's socket and a configuration of the plugin."""
    with contextlib.ExitStack() as running:

        def open(path: Path, config: dict[str, str], phase: str | None = None) -> Client:
            """:param phase: the only one that Kong knows of; None for all."""
            text = (folder / protocol).read_text()
            if phase is not None:
                text = re.sub(r'"Phases": \[.*?\]', f'"Phases": ["{phase}"]', text)
            (tmp_path / "dump").write_text(text)
            return running.enter_context(client_of(tmp_path, folder / "interface", path, config))

        yield open


def expected(phase: str, policy: str) -> str:
    """What becomes of a request: ``log`` never touches it."""
    return PASSES if policy == "open" or phase == "log" else FAILS


@pytest.mark.parametrize("policy", ["closed", "open"])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("failure", FAILURES)
def test_failure_of_a_plugin(
    servers: dict[tuple[str, bool], Served], client: Connect, failure: str, phase: str, policy: str
) -> None:
    served = servers[policy, failure == "late"]
    opened = client(served.socket, {"phase": phase, "how": failure})
    for _ in range(2):
        assert opened.outcome(phase) == expected(phase, policy)
    if phase == "log":
        wait_for(lambda: said_about(served, failure), served.said)


def said_about(served: Served, failure: str) -> bool:
    """Whether a failure in ``log``, which no client sees, is in the server's log."""
    texts = {
        "raise": "the log handler raised ValueError: broken",
        "argument": "the log handler raised ArgumentError",
        "late": "log has taken longer than 0.3 s",
        "die": "under way there (log)",
    }
    return texts[failure] in served.said()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    (tmp_path / "server").mkdir()
    with starting(tmp_path / "server") as start:
        yield start


@pytest.mark.parametrize("policy", ["closed", "open"])
@pytest.mark.parametrize("phase", PHASES)
def test_overload(  # noqa: PLR0913, PLR0917
    folder: Path, start: Start, client: Connect, tmp_path: Path, phase: str, policy: str
) -> None:
    """One event runs, none may wait: the next one is refused."""
    limits = {"KONG_PYTHON_CONCURRENCY": "1", "KONG_PYTHON_QUEUE": "0", "KONG_PYTHON_TIMEOUT": "0"}
    served = serve(start, folder, policy, KONG_PYTHON_ENGINE="threads", **limits)
    opened = client(served.socket, {"phase": "none", "how": "none"}, phase)
    assert opened.outcome(phase) == PASSES
    end, begun = tmp_path / "end", tmp_path / "end.begun"
    with contextlib.closing(ProtobufKong(served.socket, EXTENDED)) as kong:
        instance = kong.start("probe", {"phase": "rewrite", "how": "hold", "file": str(end)})

    def hold() -> bool:
        """Have an event run until the end; it is refused as long as the event before it is not quite over."""
        while True:
            with contextlib.closing(ProtobufKong(served.socket, EXTENDED)) as kong:
                result = kong.event(instance, "rewrite")
                if begun.exists():
                    return result

    with ThreadPoolExecutor(1) as threads:
        holds = threads.submit(hold)
        wait_for(begun.exists, served.said)
        assert opened.outcome(phase, failed=503) == expected(phase, policy)
        wait_for(lambda: f"probe: {phase} is refused" in served.said(), served.said)
        end.touch()
        assert holds.result(DEADLINE)
    wait_for(lambda: opened.outcome(phase, failed=503) == PASSES)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("failure", GONE)
def test_failure_of_a_server(  # noqa: PLR0913, PLR0917
    folder: Path, start: Start, client: Connect, protocol: str, failure: str, phase: str
) -> None:
    """Kong decides: over MsgPack:1 a request passes whose plugin's server is down, once its instance was started."""
    served = serve(start, folder, "closed")
    opened = client(served.socket, {"phase": "none", "how": "none"}, phase)
    assert opened.outcome(phase) == PASSES
    served.stop(signal.SIGKILL)
    served.socket.unlink(missing_ok=True)
    with garbage(served.socket) if failure == "garbage" else contextlib.nullcontext():
        passes = phase == "log" or (protocol, failure) == ("msgpack", "down")
        if passes:
            assert opened.outcome(phase) == PASSES
        else:  # an idle connection whose end Kong has not seen yet is a server that is down
            wait_for(lambda: opened.outcome(phase) == FAILS)


@contextlib.contextmanager
def garbage(path: Path) -> Iterator[None]:
    """Something else that listens there."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        stopped = threading.Event()

        def talk() -> None:
            while not stopped.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
            thread.join(DEADLINE)
