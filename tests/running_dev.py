"""``kong-python dev`` as a process, and the lines that it writes."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import ssl
import subprocess
import threading
from collections.abc import Iterable, Mapping

from programs import KONG_PYTHON
from replies import Reply
from waiting import DEADLINE, wait_for

SERVING = re.compile(r"serving \S+ on (https?)://127\.0\.0\.1:(\d+)")


class Dev:
    """A running ``kong-python dev`` on free ports, which serves."""

    def __init__(self, *arguments: str, environment: Mapping[str, str]) -> None:
        """:param environment: variables beside those of this process, of which it gets none of Kong's."""
        self.lines: list[str] = []
        self._ports: dict[str, int] = {}
        self._serving = threading.Event()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KONG_")}
        self.process = subprocess.Popen(
            [KONG_PYTHON, "dev", "--port", "0", "--tls-port", "0", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="backslashreplace",
            env={**inherited, **environment},
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            assert self._serving.wait(DEADLINE), self.lines
            assert self._ports.keys() == {"http", "https"}, self.lines
        except BaseException:
            self.close()
            raise
        self.lines_of_start = list(self.lines)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := SERVING.search(line):
                self._ports[found[1]] = int(found[2])
            if len(self._ports) == 2:
                self._serving.set()
        self._serving.set()

    def get(self, path: str = "/", scheme: str = "http", **headers: str) -> Reply:
        with contextlib.closing(self._connection(scheme)) as connection:
            connection.request("GET", path, headers=headers)
            return Reply.read(connection.getresponse())

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
        with contextlib.closing(self._connection("http")) as connection:
            host = any(name.lower() == "host" for name, _ in given)
            connection.putrequest(method, path, skip_host=host, skip_accept_encoding=True)
            for name, value in given:
                connection.putheader(name, value)
            if chunked:
                connection.putheader("Transfer-Encoding", "chunked")
            elif body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders([body] if chunked else body or None, encode_chunked=chunked)
            return Reply.read(connection.getresponse())

    def _connection(self, scheme: str) -> http.client.HTTPConnection:
        port = self._ports[scheme]
        if scheme == "http":
            return http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        context = ssl._create_unverified_context()
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=DEADLINE, context=context)

    def wait_for_line(self, *texts: str) -> str:
        """The first line that has all of these texts."""
        return wait_for(lambda: self._line(texts), lambda: f"no line with {texts}: {self.lines}")

    def _line(self, texts: Iterable[str]) -> str:
        return next((line for line in list(self.lines) if all(text in line for text in texts)), "")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; give its exit status when all of its lines are read."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return status

    def close(self) -> None:
        self.stop()
        assert self.process.stdout is not None
        self.process.stdout.close()
