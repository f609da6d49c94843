"""Two containers behind a balancer are restarted in turn: no client notices."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from pathlib import Path

import pytest
from container.balancer import Target, balance
from container.load import under_load
from container.log_lines import DANGLING_SOCKETS
from container.product import TEST_PLUGINS, Kong, Launcher, declarative

REQUESTS = 10_000
RESTARTS = 20


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def start_node(kong: Launcher, plugins: Path, number: int, port: int) -> Kong:
    """Start a container that listens on this machine: at a published port, the engine accepts in its place."""
    env = {"NODE": f"node{number}", "KONG_PROXY_LISTEN": f"127.0.0.1:{port}"}
    env |= dict.fromkeys(("KONG_ADMIN_LISTEN", "KONG_ADMIN_GUI_LISTEN", "KONG_STATUS_LISTEN"), "off")
    return kong.start(
        plugins=plugins, config=declarative("names"), env=env, network="host", ports=(), expected=[DANGLING_SOCKETS]
    )


@pytest.mark.timeout(1200)
def test_no_request_fails_while_containers_are_restarted_in_turn(kong: Launcher) -> None:
    """10,000 requests and 20 times `docker restart`: each request gets the plugin's answer."""
    plugins = kong.folder({"names.py": TEST_PLUGINS / "names.py"})
    ports = free_ports(2)
    containers = [start_node(kong, plugins, number, port) for number, port in enumerate(ports)]
    targets = [Target(("127.0.0.1", port)) for port in ports]

    with balance(*targets) as balancer:
        containers[0].wait_for(lambda: all(target.is_in for target in targets), "the balancer has both containers")
        with under_load(balancer.address) as load:
            for number in range(RESTARTS):
                container, target = containers[number % 2], targets[number % 2]
                container.restart()
                container.wait_for(lambda target=target: target.is_in, "the balancer has the container again")
            containers[0].wait_for(lambda: len(load.replies) >= REQUESTS, "enough requests are sent")

    answers = Counter((reply.status, reply.text) for reply in load.replies)
    assert set(answers) == {(200, "node0"), (200, "node1")}, answers
    for container in containers:
        assert container.logs().count("every plugin server answers (1), starting Kong") == 1 + RESTARTS // 2
        assert container.stop() == 0
