"""The example plugins behind the embedded gateway: ``kong-python dev`` as a process, a service and a client."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local_servers import Answer, Headers, HttpServer, Request

ROOT = Path(__file__).parents[3]
PLUGINS = ROOT / "plugins"
DEADLINE = 60.0

UPSTREAM_URL = "http://upstream:9000"
"""Stands for the service in a configuration, as in ``docker/kong.yml`` and in the pages."""

_SERVING = re.compile(r"serving \S+ on http://127\.0\.0\.1:(\d+)")
_TROUBLE = re.compile(r"\[(warn|error|crit|alert|emerg)\]|Traceback")
_EXPECTED = "start_command undefined for pluginserver"


def from_the_service(request: Request) -> Answer:
    return Answer(200, (("Content-Type", "text/plain"),), b"from the service")


@dataclass
class Service:
    """An HTTP service behind the gateway: keeps the requests and answers with the result of ``answer``."""

    received: list[Request] = field(default_factory=list)
    answer: Callable[[Request], Answer] = from_the_service

    def __post_init__(self) -> None:
        self._server = HttpServer(self._answer)
        self.url = self._server.url
        self.close = self._server.close

    def begin(self) -> None:
        """Remove the requests and the answer of the last test."""
        self.received.clear()
        self.answer = from_the_service

    def _answer(self, request: Request) -> Answer:
        self.received.append(request)
        return self.answer(request)


@dataclass
class Reply:
    """The response as the client got it."""

    status: int
    headers: Headers
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def value(self, name: str) -> str | None:
        return next(iter(self.values(name)), None)


@dataclass
class Node:
    """A running ``kong-python dev`` with some of the example plugins."""

    process: subprocess.Popen[str]
    service: Service
    folder: Path
    lines: list[str] = field(default_factory=list)
    port: int = 0
    _checked: int = 0
    _serving: threading.Event = field(default_factory=threading.Event)
    _reader: threading.Thread | None = None

    def request(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str | bytes]] = (),
        body: bytes = b"",
        chunked: bool = False,
    ) -> Reply:
        """Send a request with exactly these headers, and a Content-Length if there is a body."""
        given = list(headers)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            host = any(name.lower() == "host" for name, _ in given)
            connection.putrequest(method, path, skip_host=host, skip_accept_encoding=True)
            for name, value in given:
                connection.putheader(name, value)
            if chunked:
                connection.putheader("Transfer-Encoding", "chunked")
            elif body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders([body] if chunked else body or None, encode_chunked=chunked)
            response = connection.getresponse()
            return Reply(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def wait_for_line(self, *texts: str) -> str:
        """The first line of the log that has all of these texts."""
        end = time.monotonic() + DEADLINE
        while True:
            for line in list(self.lines):
                if all(text in line for text in texts):
                    return line
            assert time.monotonic() < end, f"no line with {texts}: {self.lines}"
            threading.Event().wait(0.02)

    def trouble(self) -> list[str]:
        """Give new lines of level warn and above, without those of every start."""
        new, self._checked = self.lines[self._checked :], len(self.lines)
        return [line for line in new if _TROUBLE.search(line) and _EXPECTED not in line]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; give its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(DEADLINE)
        if self._reader is not None:
            self._reader.join(DEADLINE)
        return status

    def close(self) -> None:
        self.stop()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.service.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := _SERVING.search(line):
                self.port = int(found[1])
                self._serving.set()
        self._serving.set()

    def begin(self) -> None:
        """Read the log until the node serves."""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._serving.wait(DEADLINE), self.lines
        assert self.port, self.lines


def copy_plugins(names: Iterable[str], folder: Path) -> Path:
    """Copy example plugins into a folder, without their requirements, which the tests' environment has."""
    folder.mkdir()
    for name in names:
        source = PLUGINS / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("requirements.txt", "__pycache__"))
        else:
            shutil.copy(PLUGINS / f"{name}.py", folder)
    return folder


def start(names: Sequence[str], configuration: str, environment: Mapping[str, str]) -> Node:
    """Run the plugins of these names with a ``kong.yml``, in which ``UPSTREAM_URL`` is the service."""
    folder = Path(tempfile.mkdtemp(prefix="kong-python-examples-"))
    service = Service()
    file = folder / "kong.yml"
    file.write_text(configuration.replace(UPSTREAM_URL, service.url), encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KONG_")}
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from kong_pdk.cli import main; sys.exit(main())", "dev",
         str(copy_plugins(names, folder / "plugins")), "-c", str(file), "--port", "0", "--tls-port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="backslashreplace",
        env={**inherited, **environment},
    )  # fmt: skip
    node = Node(process, service, folder)
    try:
        node.begin()
    except BaseException:
        node.close()
        raise
    return node
