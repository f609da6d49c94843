"""Plugins written for kong-pdk, behind a gateway: served by the two command lines as its documentation shows."""

from __future__ import annotations

import http.client
import json
import shlex
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kong_pdk.commands.echo_service import EchoHandler
from local_servers import HandlerServer
from programs import PLUGINSERVER
from running_gateway import RunningGateway
from server_process import BARE, output_of
from waiting import wait_for

HERE = Path(__file__).parent
PLUGINS = HERE / "plugins"
PLAIN_PLUGINS = HERE / "without_lua_style" / "plugins"
DEADLINE = 60.0

ROUTES = {"shared": ["shared-writer", "shared-reader"]}
"""Routes with other plugins on them than the one of their name."""

EVERYWHERE = "every-phase"


def names(folder: Path) -> list[str]:
    """The plugins of a folder."""
    return sorted(file.stem for file in folder.glob("*.py"))


def declarative(upstream: tuple[str, int], plugins: list[str]) -> str:
    """A kong.yml (JSON is YAML) with a route ``/NAME`` for each plugin, and one for TCP connections.

    :param upstream: host and port of the service, which answers with the request that it received.
    """
    host, port = upstream
    configs = {
        "helper-objects": {"realm": "guests"},
        "asks-a-service": {"host": host, "port": port},
        "schema-fields": {"count": 9, "kinds": ["y"], "server": {"host": "here"}, "names": []},
    }
    on = ROUTES | {name: [name] for name in plugins if name != EVERYWHERE and not name.startswith("shared-")}
    routes = [
        {
            "name": route,
            "paths": [f"/{route}"],
            "strip_path": False,
            "plugins": [{"name": name, "config": configs.get(name, {})} for name in on[route] if name in plugins],
        }
        for route in on
    ]
    service = {"name": "echo", "url": f"http://{host}:{port}", "routes": [*routes, {"name": "rest", "paths": ["/"]}]}
    stream = {"name": "stream", "protocols": ["tcp"], "sources": [{"ip": "0.0.0.0/0"}]}
    services = [service, {"name": "tcp", "url": f"tcp://{host}:{port}", "routes": [stream]}]
    everywhere = [{"name": EVERYWHERE, "protocols": ["http", "https", "tcp"]}] if EVERYWHERE in plugins else []
    return json.dumps({"_format_version": "3.0", "services": services, "plugins": everywhere})


@dataclass
class Answer:
    """The answer that the client receives. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Kong:
    """A gateway, or a real Kong, with the plugins, and the log of their servers."""

    addresses: Sequence[tuple[str, int]]
    """Where it listens for HTTP, TLS and TCP."""

    said: Callable[[], str]
    processes: int
    """How many processes serve a plugin."""

    def get(self, path: str, body: bytes | None = None, **headers: str) -> Answer:
        return ask(http.client.HTTPConnection(*self.addresses[0], timeout=DEADLINE), path, body, headers)

    def get_by_tls(self, path: str) -> Answer:
        context = ssl._create_unverified_context()
        return ask(http.client.HTTPSConnection(*self.addresses[1], timeout=DEADLINE, context=context), path)

    def get_by_stream(self, path: str) -> Answer:
        """Ask the service through a TCP connection that Kong only forwards."""
        return ask(http.client.HTTPConnection(*self.addresses[2], timeout=DEADLINE), path)

    def wait_for(self, text: str) -> None:
        """Wait until the log has a text."""
        wait_for(lambda: text in self.said(), self.said, DEADLINE)


def ask(
    connection: http.client.HTTPConnection,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Make one request. ``_`` stands for ``-`` in names of headers."""
    try:
        given = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        connection.request("GET" if body is None else "POST", path, body, given)
        response = connection.getresponse()
        found: dict[str, str] = {}
        for name, value in response.getheaders():
            found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


def _gateway(prefix: Path, plugins: list[str], servers: Mapping[str, str], port: int) -> RunningGateway:
    declared = declarative(("127.0.0.1", port), plugins)
    return RunningGateway(
        prefix,
        {
            "KONG_PROXY_LISTEN": "127.0.0.1:0, 127.0.0.1:0 ssl",
            "KONG_STREAM_LISTEN": "127.0.0.1:0",
            "KONG_PROXY_STREAM_ACCESS_LOG": "off",
            "KONG_PLUGINS": ",".join(["bundled", *plugins]),
            "KONG_PLUGINSERVER_NAMES": ",".join(plugins),
            "KONG_DECLARATIVE_CONFIG_STRING": declared,
            **servers,
        },
    )


@contextmanager
def folder(prefix: Path, where: Path, protocol: str, *options: str, processes: int = 1) -> Iterator[Kong]:
    """One server for a folder, on one socket, with an entry in ``pluginserver_names`` for each plugin."""
    socket, log = prefix / "python_pluginserver.sock", prefix / "server.log"
    command = [PLUGINSERVER, "-d", str(where), "-p", str(prefix), "-v", *options]
    dumped = json.loads(output_of(PLUGINSERVER, "-d", where, "--dump-all-plugins"))
    servers = {}
    for plugin in dumped:
        dump = prefix / f"{plugin['Name']}.json"
        dump.write_text(json.dumps({"Protocol": protocol, "Plugins": [plugin]}))
        key = f"KONG_PLUGINSERVER_{plugin['Name'].upper().replace('-', '_')}"
        servers |= {f"{key}_SOCKET": str(socket), f"{key}_QUERY_CMD": f"cat {shlex.quote(str(dump))}"}
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=BARE, cwd=prefix)
    try:
        wait_for(lambda: socket.exists() or process.poll() is not None, log.read_text, DEADLINE)
        with (
            closing(HandlerServer(EchoHandler)) as echo,
            _gateway(prefix, names(where), servers, echo.port) as gateway,
        ):
            yield Kong(gateway.addresses, lambda: log.read_text() + gateway.log.read_text(), processes)
    finally:
        process.terminate()
        assert process.wait(DEADLINE) == 0, log.read_text()


@contextmanager
def files(prefix: Path, where: Path, protocol: str, *options: str, processes: int = 1) -> Iterator[Kong]:
    """A server for each file, which Kong starts and asks for its dump; the sockets are where Kong looks by itself.

    Kong asks one after the other, and twice where it has streams: most of the answers are given in advance.
    """
    plugins = names(where)
    choice = ("--protocol", "protobuf") if protocol == "ProtoBuf:1" else ()
    servers = {}
    for name in plugins:
        file, dump = where / f"{name}.py", prefix / f"{name}.json"
        if name == plugins[0]:
            query = [sys.executable, str(file), "--dump", *choice]
        else:
            dump.write_text(output_of(file, "--dump", *choice))
            query = ["cat", str(dump)]
        key = f"KONG_PLUGINSERVER_{name.upper().replace('-', '_')}"
        servers[f"{key}_START_CMD"] = shlex.join([sys.executable, str(file), "-p", str(prefix), "-v", *options])
        servers[f"{key}_QUERY_CMD"] = shlex.join(query)
    log = prefix / "error.log"
    with closing(HandlerServer(EchoHandler)) as echo, _gateway(prefix, plugins, servers, echo.port) as gateway:
        wait_for(lambda: all((prefix / f"{name}.socket").exists() for name in plugins), log.read_text, DEADLINE)
        yield Kong(gateway.addresses, log.read_text, processes)
