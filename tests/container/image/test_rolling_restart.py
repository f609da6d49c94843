"""Two containers behind a balancer are restarted in turn: no client notices."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from container.balancer import Address, Balancer, Target, balance
from container.log_lines import DANGLING_SOCKETS
from container.product import TEST_PLUGINS, Kong, Launcher, declarative

REQUESTS = 10_000
RESTARTS = 20
CLIENTS = 6
_PAUSE = 0.01


def address(container: Kong) -> Address:
    """Give its address on the network of the tests: behind a published port, nobody refuses a connection."""
    (network,) = container.inspect()["NetworkSettings"]["Networks"].values()
    if not network["IPAddress"]:
        raise ConnectionRefusedError("it has ended")
    return network["IPAddress"], 8000


class Clients:
    """Send requests until they are told to stop, and count the answers."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self.enough = threading.Event()
        self.answers: Counter[str] = Counter()

    @property
    def sent(self) -> int:
        return self.answers.total()

    def run(self) -> None:
        while not self.enough.is_set():
            self.answers[self._answer()] += 1
            time.sleep(_PAUSE)  # else they would take the processors that the containers need to start

    def _answer(self) -> str:
        connection = http.client.HTTPConnection(*self._balancer.address, timeout=60)
        try:
            connection.request("GET", "/", headers={"connection": "close"})
            response = connection.getresponse()
            return f"{response.status} {response.read().decode()}"
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        finally:
            connection.close()


@pytest.mark.timeout(1200)
def test_no_request_fails_while_containers_are_restarted_in_turn(kong: Launcher) -> None:
    """10,000 requests and 20 restarts by `docker restart`: each request gets the plugin's answer."""
    plugins = kong.folder({"names.py": TEST_PLUGINS / "names.py"})
    containers = [
        kong.start(plugins=plugins, config=declarative("names"), expected=[DANGLING_SOCKETS]) for _ in range(2)
    ]
    for container in containers:
        container.wait_until_serving()
    targets = [Target(lambda container=container: address(container)) for container in containers]

    with balance(*targets) as balancer, ThreadPoolExecutor(CLIENTS) as pool:
        clients = Clients(balancer)
        containers[0].wait_for(lambda: all(target.is_in for target in targets), "the balancer has both containers")
        sending = [pool.submit(clients.run) for _ in range(CLIENTS)]
        try:
            for number in range(RESTARTS):
                container, target = containers[number % 2], targets[number % 2]
                container.restart()
                container.wait_for(lambda target=target: target.is_in, "the balancer has the container again")
            container.wait_for(lambda: clients.sent >= REQUESTS, "enough requests are sent")
        finally:
            clients.enough.set()
        for each in sending:
            each.result()

    names = {container.inspect()["Config"]["Hostname"] for container in containers}
    assert set(clients.answers) == {f"200 {name}" for name in names}, clients.answers
    for container in containers:
        assert container.logs().count("every plugin server answers (1), starting Kong") == 1 + RESTARTS // 2
        assert container.stop() == 0
