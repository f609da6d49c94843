"""Twenty plugins work like one."""

from __future__ import annotations

import json

import pytest
from container.product import Kong, Launcher, declarative

NAMES = [f"plugin-{number:02}" for number in range(20)]
PLUGIN = """
version = "1.0.0"
priority = {priority}


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        kong.response.set_header("x-{name}", "here")
"""


@pytest.fixture(scope="module")
def twenty(shared: Launcher) -> Kong:
    files = {f"{name}.py": PLUGIN.format(name=name, priority=100 - number) for number, name in enumerate(NAMES)}
    container = shared.start(plugins=shared.folder(files), config=declarative(*NAMES))
    container.wait_until_serving()
    return container


def test_all_of_them_take_part(twenty: Kong) -> None:
    """Every plugin of the folder takes part in a request."""
    headers = twenty.request().headers

    assert [name for name in NAMES if headers.get(f"x-{name}") != "here"] == []


def test_each_has_a_server_that_answers(twenty: Kong) -> None:
    """Each plugin has its own server, and all servers are running."""
    rows = json.loads(twenty.exec("kong-python", "plugins", "--json").stdout)

    assert [(row["name"], row["state"]) for row in rows] == [(name, "running") for name in NAMES]


def test_they_stop_in_time(twenty: Kong) -> None:
    """docker stop with twenty servers ends with 0 within Docker's ten seconds."""
    assert twenty.stop() == 0
