"""The embedded gateway and our plugin server, over one protocol and with one interface file."""

from __future__ import annotations

import http.client
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.same_values_scenarios import HOST, PHASES, SCENARIOS
from fake_kong import DEADLINE
from kong_pdk.wire.interface import EXTENDED, STOCK, as_text
from running_gateway import RunningGateway
from unit.server.server_process import wait_for

PLUGINS = Path(__file__).parent / "plugins"
MSGPACK, PROTOBUF, PROTOBUF_EXTENDED = "msgpack", "protobuf", "protobuf-extended"
WAYS = {MSGPACK: STOCK, PROTOBUF: STOCK, PROTOBUF_EXTENDED: EXTENDED}

KONG_YML = """
_format_version: "3.0"
_transform: true
consumers:
- username: alice
  custom_id: alice-id
  id: 3bbb2a3e-0000-4000-8000-0000000000a1
  tags: [c1]
  keyauth_credentials:
  - {{key: alice-key, id: 3bbb2a3e-0000-4000-8000-0000000000c1}}
services:
- name: echo
  id: 3bbb2a3e-0000-4000-8000-000000000001
  url: http://127.0.0.1:{port}/base
  tags: [t1]
  routes:
  - name: by-expression
    id: 3bbb2a3e-0000-4000-8000-000000000002
    paths: ["~/probe/(?<id>\\\\d+)/(\\\\w+)(x?)"]
    strip_path: false
    tags: [r1, r2]
  - {{name: strip, id: 3bbb2a3e-0000-4000-8000-000000000003, paths: [/strip]}}
  - name: keyed
    id: 3bbb2a3e-0000-4000-8000-000000000004
    paths: [/keyed]
    hosts: [here.test]
    methods: [GET]
    headers: {{x-scenario: [reads-of-a-known-client]}}
    plugins:
    - {{name: key-auth, id: 3bbb2a3e-0000-4000-8000-0000000000f2}}
upstreams:
- name: other-upstream
  id: 3bbb2a3e-0000-4000-8000-0000000000e1
  targets:
  - {{target: "127.0.0.1:{port}", id: 3bbb2a3e-0000-4000-8000-0000000000e2}}
plugins:
- name: same-values
  id: 3bbb2a3e-0000-4000-8000-0000000000f1
  config: {{folder: "{folder}"}}
"""


@dataclass
class Outcome:
    """The outcome of a scenario over one protocol: the handlers' results and the client's response."""

    got: dict[str, list[tuple[Any, ...]]]
    status: int
    headers: list[list[str]]
    body: bytes


@dataclass
class Kong:
    """A gateway and a server with the plugin, over one protocol."""

    gateway: RunningGateway
    folder: Path
    log: Path

    def run(self, name: str) -> Outcome:
        scenario = SCENARIOS[name]
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=DEADLINE)
        try:
            headers = {"host": HOST, "x-scenario": name, **scenario.headers}
            connection.request("POST" if scenario.body is not None else "GET", scenario.path, scenario.body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        done = self.folder / f"{name}.log.got"
        wait_for(done.exists, lambda: self.log.read_text() + self.gateway.log.read_text("utf-8", "replace"))
        got = {
            phase: pickle.loads((self.folder / f"{name}.{phase}.got").read_bytes())
            for phase in PHASES
            if (self.folder / f"{name}.{phase}.got").exists()
        }
        return Outcome(got, response.status, [list(pair) for pair in response.getheaders()], content)


@contextmanager
def running(way: str, folder: Path, upstream_port: int) -> Iterator[Kong]:
    """Start a server and a gateway that use one protocol."""
    interface = folder / "pluginsocket.proto"
    interface.write_text(as_text(WAYS[way]))
    (folder / "orders").write_bytes(pickle.dumps({name: each.orders() for name, each in SCENARIOS.items()}))
    (folder / "kong.yml").write_text(KONG_YML.format(port=upstream_port, folder=folder))
    command = [
        sys.executable, "-m", "kong_pdk.server", "-d", str(PLUGINS), "-p", str(folder), "--plugin", "same-values",
        "--socket-name", "s", "--protocol", way.partition("-")[0],
    ]  # fmt: skip
    environment = {"KONG_PYTHON_INTERFACE_FILE": str(interface)}
    dump = subprocess.run([*command, "--dump"], env=environment, capture_output=True, check=True).stdout
    (folder / "dump.json").write_bytes(dump)
    log = folder / "server.log"
    with log.open("w") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as server:
        try:
            settings = {
                "KONG_DECLARATIVE_CONFIG": str(folder / "kong.yml"),
                "KONG_PLUGINS": "bundled,same-values",
                "KONG_PLUGINSERVER_NAMES": "s",
                "KONG_PLUGINSERVER_S_SOCKET": str(folder / "s"),
                "KONG_PLUGINSERVER_S_QUERY_CMD": f"cat '{folder}/dump.json'",
            }
            wait_for(lambda: (folder / "s").exists() or server.poll() is not None, log.read_text)
            with RunningGateway(folder, settings, interface) as gateway:
                yield Kong(gateway, folder, log)
        finally:
            server.terminate()
