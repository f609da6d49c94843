"""Scenarios of requests and PDK calls, run by the embedded gateway and a plugin server of ours over one protocol."""

from __future__ import annotations

import csv
import http.client
import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from kong_pdk.wire.interface import EXTENDED, STOCK, as_text
from kong_pdk.wire.pdk_functions import allowed
from programs import PLUGINSERVER
from running_gateway import RunningGateway
from server_process import output_of, serving
from waiting import DEADLINE, wait_for

PHASES = ("rewrite", "access", "response", "log")
MSGPACK, PROTOBUF, PROTOBUF_EXTENDED = "msgpack", "protobuf", "protobuf-extended"
WAYS = {MSGPACK: STOCK, PROTOBUF: STOCK, PROTOBUF_EXTENDED: EXTENDED}
STOCK_FUNCTIONS = {method.function for method in STOCK}
LARGE = 20_000
"""Bytes of a body that nginx spools to a file."""

_FOLDER = Path(__file__).parent
Call = tuple[str, list[Any]]


@dataclass(frozen=True)
class Scenario:
    """A request and the calls that the handlers make, each in all phases where it works."""

    calls: list[Call]
    path: str = "/strip/x"
    body: bytes | None = None
    headers: dict[str, bytes] = field(default_factory=dict)

    def orders(self) -> dict[str, list[Call]]:
        return {phase: [call for call in self.calls if allowed(call[0], phase) is not False] for phase in PHASES}


def _with_bytes(value: dict[str, Any]) -> Any:
    return bytes.fromhex(value["$bytes"]) if "$bytes" in value else value


def _calls() -> dict[str, list[Call]]:
    """The calls of ``same_values.tsv``, by the names of their sets."""
    found: dict[str, list[Call]] = {}
    with (_FOLDER / "same_values.tsv").open(encoding="utf-8", newline="") as table:
        for name, function, arguments in list(csv.reader(table, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]:
            found.setdefault(name, []).extend(
                (function, each) for each in json.loads(arguments, object_hook=_with_bytes)
            )
    return found


_CALLS = _calls()
_LATIN1 = b"Zo\xeb".decode("utf-8", "surrogateescape")
_KEPT = ["text", _LATIN1, "", 0, 1, -5, 2**40, 0.5, 1e300, True, {}, [], [1, "a"], {"a": {"b": [True]}}]
_WRITES = _CALLS["writes"] + [
    call
    for setter, getter in (("ctx.shared.set", "ctx.shared.get"), ("nginx.set_ctx", "nginx.get_ctx"))
    for value in _KEPT
    for call in ((f"kong.{setter}", ["k", value]), (f"kong.{getter}", ["k"]))
]
_READS, _BODIES = _CALLS["reads"], _CALLS["bodies"]
_ALL_BODIES = _BODIES + _CALLS["parsed"]
_HEADERS = {"x-latin1": b"Zo\xeb", "x-empty": b"", "x-up": b"no", "cookie": b"a=b"}
_JSON = {"content-type": b"application/json"}
_FORM = {"content-type": b"application/x-www-form-urlencoded"}
_JSON_BODY = '{"i": 5, "f": 0.5, "n": null, "t": true, "no": false, "e": {}, "l": [], "s": "\\u00e9", "b": [1, [2]]}'
_OF_STOCK = [call for call in _WRITES if call[0] in STOCK_FUNCTIONS]

SCENARIOS = {
    "reads": Scenario(_READS, "/probe/12/ab?a=1&b=2&b=3&flag&empty=&both&both=1&%C3=%E9", headers=_HEADERS),
    "reads-of-a-known-client": Scenario(_READS, "/keyed?a=1", headers={"apikey": b"alice-key"}),
    "reads-of-nothing": Scenario(_READS, "/strip"),
    "writes": Scenario(_OF_STOCK, "/strip/x?a=1&b=2", headers=_HEADERS),
    "writes-of-the-extension": Scenario(
        [call for call in _WRITES if call not in _OF_STOCK], "/strip/x?a=1&b=2", headers=_HEADERS
    ),
    "no-body": Scenario(_BODIES),
    "bytes": Scenario(_BODIES, body=bytes(range(256))),
    "json": Scenario(_ALL_BODIES, body=_JSON_BODY.encode(), headers=_JSON),
    "json-text": Scenario(_ALL_BODIES, body=b'"text"', headers=_JSON),
    "json-list": Scenario(_ALL_BODIES, body=b"[]", headers=_JSON),
    "no-json": Scenario(_ALL_BODIES, body=b"{", headers=_JSON),
    "form": Scenario(_ALL_BODIES, body=b"a=1&b=2&b=3&flag&%C3=%E9", headers=_FORM),
    "another-kind": Scenario(_ALL_BODIES, body=b"a", headers={"content-type": b"text/plain"}),
    "large": Scenario(_BODIES, body=b"\xff" * LARGE),
    "large-json": Scenario(_CALLS["parsed"], body=b'{"a":"%s"}' % (b"x" * LARGE), headers=_JSON),
    **{name: Scenario(calls) for name, calls in _CALLS.items() if name not in ("reads", "writes", "bodies", "parsed")},
}


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
            headers = {"host": "here.test", "x-scenario": name, **scenario.headers}
            connection.request("POST" if scenario.body is not None else "GET", scenario.path, scenario.body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        written = {phase: self.folder / f"{name}.{phase}.got" for phase in PHASES}
        wait_for(written["log"].exists, lambda: self.log.read_text() + self.gateway.log.read_text("utf-8", "replace"))
        got = {phase: pickle.loads(file.read_bytes()) for phase, file in written.items() if file.exists()}
        return Outcome(got, response.status, [list(pair) for pair in response.getheaders()], content)


@contextmanager
def running(way: str, folder: Path, upstream_port: int) -> Iterator[Kong]:
    """Start a server and a gateway that use one protocol."""
    interface = folder / "pluginsocket.proto"
    interface.write_text(as_text(WAYS[way]))
    (folder / "orders").write_bytes(pickle.dumps({name: each.orders() for name, each in SCENARIOS.items()}))
    kong_yml = Template((_FOLDER / "same_values.yml").read_text("utf-8"))
    (folder / "kong.yml").write_text(kong_yml.substitute(port=upstream_port, folder=folder))
    environment = {"KONG_PYTHON_INTERFACE_FILE": str(interface)}
    plugin = (_FOLDER / "plugins/same-values.py").read_text("utf-8")
    with serving(folder, "threads") as serve:
        protocol = ("--protocol", way.partition("-")[0])
        served = serve(plugin, *protocol, **environment)
        dump = output_of(PLUGINSERVER, "-d", folder / "plugins", *protocol, "--dump", **environment)
        (folder / "dump.json").write_text(dump)
        settings = {
            "KONG_DECLARATIVE_CONFIG": str(folder / "kong.yml"),
            "KONG_PLUGINS": "bundled,probe",
            "KONG_PLUGINSERVER_NAMES": "s",
            "KONG_PLUGINSERVER_S_SOCKET": str(served.socket),
            "KONG_PLUGINSERVER_S_QUERY_CMD": f"cat '{folder}/dump.json'",
        }
        with RunningGateway(folder, settings, interface) as gateway:
            yield Kong(gateway, folder, served.log)
