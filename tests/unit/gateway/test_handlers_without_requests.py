"""Handlers for ``certificate``, ``preread`` and a stream's ``log`` behind the gateway, over both protocols.

Failures in them fail closed, and the plugin's author gets a message.
"""

from __future__ import annotations

import json
import logging
import shlex
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from local_servers import tcp_service
from unit.server.conftest import Serve as ServePlugin
from waiting import DEADLINE, wait_for

from .conftest import Running, Serve, Upstream
from .tcp import connect, echo
from .test_certificate import get


class Probe:
    """Each handler does what its configuration asks for; ``log`` keeps the records."""

    logged: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, config: dict[str, Any]) -> None:
        self._does = config["does"]

    def certificate(self, kong: Any) -> None:
        self._do(kong)

    def preread(self, kong: Any) -> None:
        self._do(kong)

    def log(self, kong: Any) -> None:
        if kong.nginx.get_subsystem() == ("stream", None):
            record, _ = kong.log.serialize()
            self.logged.append(record if isinstance(record, dict) else json.loads(record))

    def _do(self, kong: Any) -> None:
        if self._does == "raise":
            raise ValueError("a bug of the plugin")
        if self._does == "exit":
            kong.response.exit(403)
        if self._does == "refused":
            kong.request.get_header("host")


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """Give the socket of a server with the plugin."""
    Probe.logged.clear()
    serving = ServePlugin(tmp_path, "threads")
    fields = ({"does": {"type": "string"}},)
    yield serving(Probe, schema=fields)
    for path in serving._running:
        serving.stop(path)


@pytest.fixture(params=["MsgPack:1", "ProtoBuf:1"])
def start(request: pytest.FixtureRequest, serve: Serve, plugin: Path, upstream: Upstream, tmp_path: Path) -> Any:
    """Start a gateway, for TLS and TCP, with the plugin applied globally."""

    def start(does: str, tcp_port: int) -> Running:
        dump = {
            "Name": "probe",
            "Version": "1.0.0",
            "Priority": 1,
            "Phases": ["certificate", "preread", "log"],
            "Schema": {"fields": [{"config": {"type": "record", "fields": [{"does": {"type": "string"}}]}}]},
        }
        (tmp_path / "dump.json").write_text(json.dumps({"Protocol": request.param, "Plugins": [dump]}))
        return serve(
            f"""
_format_version: "3.0"
services:
- {{name: h, url: "http://127.0.0.1:{upstream.port}", routes: [{{paths: [/]}}]}}
- {{name: t, url: "tcp://127.0.0.1:{tcp_port}", routes: [{{protocols: [tcp], sources: [{{ip: 127.0.0.1}}]}}]}}
plugins: [{{name: probe, protocols: [https, tcp], config: {{does: {does}}}}}]
""",
            proxy_listen="127.0.0.1:0 ssl",
            stream_listen="127.0.0.1:0",
            plugins="probe",
            pluginserver_names="probe",
            pluginserver_probe_socket=str(plugin),
            pluginserver_probe_query_cmd=f"cat {shlex.quote(str(tmp_path / 'dump.json'))}",
        )

    return start


def test_handlers_that_let_pass(start: Any) -> None:
    with tcp_service(echo) as port:
        running = start("pass", port)
        assert get(running).status == 200
        with connect(running) as client:
            client.sendall(b"ping")
            assert client.recv(100) == b"A:ping"
        wait_for(lambda: bool(Probe.logged))
    (record,) = Probe.logged
    assert (record["session"]["received"], record["session"]["sent"], record["route"]["protocols"]) == (4, 6, ["tcp"])


@pytest.mark.parametrize("does", ["raise", "exit", "refused"])
def test_handlers_that_do_not(start: Any, does: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with tcp_service(echo) as port:
        running = start(does, port)
        with pytest.raises(ssl.SSLError):
            get(running)
        with pytest.raises(ConnectionResetError), connect(running) as client:
            client.sendall(b"ping")
            client.settimeout(DEADLINE)
            assert client.recv(100) == b"nothing"
        wait_for(lambda: bool(Probe.logged))
    assert Probe.logged[0]["session"]["status"] == (403 if does == "exit" else 500)
    texts = [f"{record.getMessage()} {record.exc_info}" for record in caplog.records]
    expected = {"raise": "a bug of the plugin", "exit": "kong.response.exit", "refused": "kong.request.get_header"}
    assert any(expected[does] in text for text in texts)
