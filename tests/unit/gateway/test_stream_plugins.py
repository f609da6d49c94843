"""Plugins behind a plugin server in both subsystems: each queries, starts instances and connects separately."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from kong_pdk.wire.calls import HandleEvent, StartInstance
from local_servers import tcp_service
from unit.gateway.servers.scripted_servers import ProtoBufServer, serving
from waiting import wait_for

from .conftest import Loop, Serve
from .tcp import connect, once

PLUGIN = {
    "Name": "p",
    "Version": "1.0.0",
    "Priority": 1,
    "Phases": ["access", "preread", "log"],
    "Schema": {"name": "p", "fields": [{"config": {"type": "record", "fields": []}}]},
}


@pytest.fixture
def server(tmp_path: Path, loop: Loop) -> Iterator[ProtoBufServer]:
    server = ProtoBufServer()
    context = serving(tmp_path / "p.sock", server)
    loop.run(context.__aenter__())
    yield server
    loop.run(context.__aexit__(None, None, None))


def settings(folder: Path) -> dict[str, str]:
    """A query command that records each run, and a plugin for both subsystems."""
    (folder / "dump.json").write_text(json.dumps({"Protocol": "ProtoBuf:1", "Plugins": [PLUGIN]}))
    asked, dump = (shlex.quote(str(folder / name)) for name in ("asked", "dump.json"))
    return {
        "plugins": "p",
        "pluginserver_names": "p",
        "pluginserver_p_socket": str(folder / "p.sock"),
        "pluginserver_p_query_cmd": f"echo once >> {asked}; cat {dump}",
    }


def text(port: int) -> str:
    return f"""
_format_version: "3.0"
services:
- {{name: t, url: "tcp://127.0.0.1:{port}", routes: [{{protocols: [tcp], sources: [{{ip: 127.0.0.1}}]}}]}}
- {{name: h, url: "http://127.0.0.1:{port}", routes: [{{paths: [/]}}]}}
plugins: [{{name: p, protocols: [http, tcp]}}]
"""


def test_each_subsystem_has_its_own_instances(serve: Serve, server: ProtoBufServer, tmp_path: Path) -> None:
    with tcp_service(once(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")) as port:
        running = serve(text(port), **settings(tmp_path), stream_listen="127.0.0.1:0")
        assert (tmp_path / "asked").read_text() == "once\nonce\n"
        for _ in range(2):
            assert running.request("GET", "/").status == 200
            with connect(running) as client:
                client.sendall(b"ping")
                assert client.recv(100).startswith(b"HTTP/1.1 200")
        wait_for(lambda: len(server.events()) == 8)
    started = [call for call in server.calls if isinstance(call, StartInstance)]
    assert len(started) == 2
    by_instance = {
        instance: {
            call.event_name for call in server.calls if isinstance(call, HandleEvent) and call.instance_id == instance
        }
        for instance in (1, 2)
    }
    assert by_instance == {1: {"access", "log"}, 2: {"preread", "log"}}


def test_without_a_stream_listener_there_is_one_query(serve: Serve, server: ProtoBufServer, tmp_path: Path) -> None:
    serve(text(1), **settings(tmp_path))
    assert (tmp_path / "asked").read_text() == "once\n"
