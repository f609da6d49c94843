"""Two containers behind a balancer are restarted in turn: no client notices."""

from __future__ import annotations

from collections import Counter

import pytest
from container.balancer import Address, Target, balance
from container.load import under_load
from container.log_lines import DANGLING_SOCKETS
from container.product import TEST_PLUGINS, Kong, Launcher, declarative

REQUESTS = 10_000
RESTARTS = 20


def address(container: Kong) -> Address:
    """Give its address on the network of the tests: at a published port, the engine accepts in its place."""
    (network,) = container.inspect()["NetworkSettings"]["Networks"].values()
    if not network["IPAddress"]:
        raise ConnectionRefusedError("it has ended")
    return network["IPAddress"], 8000


@pytest.mark.timeout(1200)
def test_no_request_fails_while_containers_are_restarted_in_turn(kong: Launcher) -> None:
    """10,000 requests and 20 times `docker restart`: each request gets the plugin's answer."""
    plugins = kong.folder({"names.py": TEST_PLUGINS / "names.py"})
    containers = [
        kong.start(plugins=plugins, config=declarative("names"), expected=[DANGLING_SOCKETS]) for _ in range(2)
    ]
    for container in containers:
        container.wait_until_serving()
    targets = [Target(lambda container=container: address(container)) for container in containers]

    with balance(*targets) as balancer:
        containers[0].wait_for(lambda: all(target.is_in for target in targets), "the balancer has both containers")
        with under_load(balancer.address) as load:
            for number in range(RESTARTS):
                container, target = containers[number % 2], targets[number % 2]
                container.restart()
                container.wait_for(lambda target=target: target.is_in, "the balancer has the container again")
            containers[0].wait_for(lambda: len(load.replies) >= REQUESTS, "enough requests are sent")

    answers = Counter((reply.status, reply.text) for reply in load.replies)
    assert set(answers) == {(200, container.inspect()["Config"]["Hostname"]) for container in containers}, answers
    for container in containers:
        assert container.logs().count("every plugin server answers (1), starting Kong") == 1 + RESTARTS // 2
        assert container.stop() == 0
