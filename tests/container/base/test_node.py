"""The running node: the plugins that it refuses, how it loads a new configuration, how it ends."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from container.base.nodes import CONFIGURATION, STATUS, StartNode, plugin_server
from container.log_lines import ALWAYS

Folder = Callable[..., Path]

_SCHEMA = {"name": "aa", "fields": [{"config": {"type": "record", "fields": [{"message": {"type": "strng"}}]}}]}


def test_a_plugin_that_no_server_has_stops_the_start(start_node: StartNode) -> None:
    """A name in KONG_PLUGINS that Kong cannot load ends the container with a message that names it."""
    node = start_node(env={"KONG_PLUGINS": "bundled,aa"}, wait=False)
    assert node.wait_exit() != 0
    logs = node.logs()
    assert "error loading plugin schemas: on plugin 'aa': aa plugin is enabled but not installed;" in logs, logs


def test_a_server_that_reports_another_plugin(start_node: StartNode) -> None:
    """A plugin that no query command reports is not installed for Kong."""
    node = start_node(env=plugin_server("aa", Name="bb"), wait=False)
    assert node.wait_exit() != 0
    assert "aa plugin is enabled but not installed" in node.logs()


def test_an_invalid_schema_stops_the_start(start_node: StartNode) -> None:
    """An invalid schema is refused before the first request."""
    node = start_node(env=plugin_server("aa", Schema=_SCHEMA), wait=False)
    assert node.wait_exit() != 0
    assert "schema violation (fields.1:" in node.logs()


def test_a_query_without_json_stops_the_start(start_node: StartNode) -> None:
    """One additional line on a query command's standard output stops the start."""
    servers = plugin_server("aa")
    servers["KONG_PLUGINSERVER_AA_QUERY_CMD"] = "echo hello"
    node = start_node(env=servers, wait=False)
    assert node.wait_exit() != 0
    assert "failed decoding plugin info" in node.logs()


def test_tcp_connections_are_passed_on(start_node: StartNode) -> None:
    """With KONG_STREAM_LISTEN and a route for tcp, the client talks to the service, here the node's status listener."""
    route = {"name": "tcp", "protocols": ["tcp"], "destinations": [{"port": 9100}]}
    service = {"name": "tcp", "url": f"tcp://127.0.0.1:{STATUS}", "routes": [route]}
    configuration = {**CONFIGURATION, "services": [*CONFIGURATION["services"], service]}
    env = {"KONG_STREAM_LISTEN": "0.0.0.0:9100", "KONG_DECLARATIVE_CONFIG_STRING": json.dumps(configuration)}
    node = start_node(env=env, options=["--publish=127.0.0.1::9100"])
    assert node.request("/status", port=9100).status == 200


def test_a_server_without_a_start_command_is_a_warning(start_node: StartNode) -> None:
    """Kong says that it does not start the server itself, and starts."""
    node = start_node(env=plugin_server("aa"))
    expected = "start_command undefined for pluginserver aa; assuming external process management"
    assert expected in node.logs()


def test_the_unprivileged_master_is_a_warning(start_node: StartNode) -> None:
    """nginx says at every healthy start that it could not change its user."""
    expected = 'the "user" directive makes sense only if the master process runs with super-user privileges'
    assert expected in start_node().logs()


def test_a_healthy_start_logs_nothing_else(start_node: StartNode) -> None:
    """A healthy start, a request and a stop log only these two warnings and those that log_lines has."""
    node = start_node(env=plugin_server("aa"))
    assert node.request("/through").status == 200
    node.stop(seconds=60)
    expected = [entry.pattern for entry in ALWAYS]
    serious = re.compile(r"\[(warn|error|crit|alert|emerg)\]|WARN|Traceback")
    lines = [line for line in node.logs().splitlines() if serious.search(line)]
    assert [line for line in lines if not any(re.search(text, line) for text in expected)] == []


def test_a_plugin_whose_server_is_gone_is_a_500(start_node: StartNode) -> None:
    """Over ProtoBuf:1 Kong fails closed: without its server a plugin answers 500, and no request passes."""
    configuration = {**CONFIGURATION, "plugins": [{"name": "aa"}]}
    node = start_node(env={**plugin_server("aa"), "KONG_DECLARATIVE_CONFIG_STRING": json.dumps(configuration)})
    answer = node.request("/through")
    assert answer.status == 500
    assert answer.json()["message"] == "An unexpected error occurred"


def test_a_path_that_is_not_utf_8_has_no_route(start_node: StartNode) -> None:
    """Kong's router fails on such bytes: a 404 and a line at error level for any routes."""
    node = start_node()
    answer = node.request("/through/caf%E9")
    assert (answer.status, answer.json()["message"]) == (404, "no Route matched with those values")
    node.wait_for_log("router returned an error: incomplete utf-8 byte sequence from index 12")
    assert node.request("/through/caf%C3%A9").json() == {"message": "Not found"}  # The service's answer.


def test_reload_takes_the_new_configuration(start_node: StartNode, folder: Folder) -> None:
    """After `kong reload` an edited declarative file is live; after a broken edit the old configuration serves on."""
    files = folder({"kong.yml": json.dumps(CONFIGURATION)})
    node = start_node(
        env={"KONG_DECLARATIVE_CONFIG_STRING": "", "KONG_DECLARATIVE_CONFIG": "/files/kong.yml"},
        options=["--volume", f"{files}:/files:ro"],
    )
    assert node.request("/later").status == 404
    text = json.dumps(CONFIGURATION)
    (files / "kong.yml").write_text(text.replace("/through", "/later"))
    node.exec("kong", "reload")
    node.wait_for(lambda: node.request("/later").status == 200, "the new route")
    assert node.request("/through").status == 404

    (files / "kong.yml").write_text("_format_version: '3.0'\nserrvices: []\n")
    node.exec("kong", "reload", check=False)
    node.wait_for_log("serrvices")
    assert node.request("/later").status == 200


def test_reload_queries_the_servers_again(start_node: StartNode) -> None:
    """The query commands run at each start and each reload of nginx."""
    servers = plugin_server("aa")
    query = servers["KONG_PLUGINSERVER_AA_QUERY_CMD"]
    servers["KONG_PLUGINSERVER_AA_QUERY_CMD"] = f"echo asked >> /tmp/asked; {query}"
    node = start_node(env=servers)

    def queries() -> int:
        return node.exec("cat", "/tmp/asked").stdout.count("asked")

    before = queries()
    assert before >= 1
    node.exec("kong", "reload")
    node.wait_for(lambda: queries() > before, "another query")


@pytest.mark.parametrize("name", ["SIGQUIT", "SIGTERM"])
def test_nginx_signals_stop_it_in_good_order(start_node: StartNode, name: str) -> None:
    """The graceful and the fast signal both end an idle node with exit code 0."""
    node = start_node()
    node.signal(name)
    assert node.wait_exit() == 0


def test_docker_stop_of_an_idle_node(start_node: StartNode) -> None:
    """docker stop ends an idle node well before the engine would kill it."""
    assert start_node().stop(seconds=60) == 0


def test_open_requests_are_served_before_the_end(start_node: StartNode) -> None:
    """A request whose body is incomplete when docker stop begins gets its answer."""
    node = start_node()
    with half_sent(node.address()) as client:
        stopping = threading.Thread(target=node.stop, kwargs={"seconds": 60})
        stopping.start()
        node.wait_for(lambda: refused(node.address()), "no new connections", alive=False)
        assert node.running
        client.sendall(b"-rest")
        # Any status will do: the upstream is this node itself, which accepts no new connections any more.
        assert client.recv(9) == b"HTTP/1.1 "
        stopping.join(timeout=120)
    assert node.wait_exit() == 0


def test_a_request_that_never_ends_leads_to_a_kill(start_node: StartNode) -> None:
    """With a half-sent request open a graceful stop waits until the engine kills it."""
    node = start_node()
    with half_sent(node.address()):
        assert node.stop(seconds=2) == 137


def half_sent(address: tuple[str, int]) -> socket.socket:
    """Open a connection and send half of a request."""
    client = socket.create_connection(address, timeout=60)
    client.sendall(b"GET /through HTTP/1.1\r\nHost: kong\r\nContent-Length: 9\r\nConnection: close\r\n\r\nhalf")
    return client


def refused(address: tuple[str, int]) -> bool:
    """Whether the port is closed: Docker's own proxy accepts a connection and drops it at once."""
    try:
        with socket.create_connection(address, timeout=5) as probe:
            probe.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return probe.recv(1) == b""
    except TimeoutError:  # it is open, and the machine is busy
        return False
    except OSError:
        return True
