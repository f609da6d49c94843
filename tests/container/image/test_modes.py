"""Engines and numbers of workers: the same plugins behind Kong in each mode."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from container.log_lines import CALL_OF_KILLED_SERVER, KILLED_WORKER
from container.product import PY_HELLO, Kong, Launcher, declarative

AT_ONCE = 16

ENGINES = {"loop": {}, **{name: {"KONG_PYTHON_ENGINE": name} for name in ("threads", "gevent")}}
PROTOCOLS = ("protobuf", "msgpack")


def start(kong: Launcher, **env: str) -> Kong:
    container = kong.start(plugins=kong.folder({"py-hello.py": PY_HELLO}), config=declarative("py-hello"), env=env)
    container.wait_until_serving()
    return container


def answers(container: Kong) -> list[tuple[int, str]]:
    """Send requests at once, so that Kong needs connections to all workers; give status and worker process of each."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = list(threads.map(lambda _: container.request(), range(AT_ONCE)))
    return [(answer.status, answer.headers.get("x-python-pid", "")) for answer in found]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("handlers", ENGINES)
def test_two_workers_serve_a_plugin(kong: Launcher, handlers: str, protocol: str) -> None:
    """KONG_PYTHON_ENGINE and KONG_PYTHON_WORKERS apply to every plugin; both workers answer; docker stop gives 0."""
    container = start(kong, KONG_PYTHON_WORKERS="2", KONG_PYTHON_PROTOCOL=protocol, **ENGINES[handlers])
    (row,) = json.loads(container.exec("kong-python", "plugins", "--json").stdout)
    assert row["mode"] == f"{handlers}, 2 workers"
    _, *workers = container.pids_of_server("py-hello")
    assert len(workers) == 2

    seen: set[str] = set()

    def both_have_answered() -> bool:
        for status, pid in answers(container):
            assert status == 200
            seen.add(pid)
        return seen == set(map(str, workers))

    container.wait_for(both_have_answered, "answers of both workers")
    assert container.stop() == 0
    assert "SIGKILL" not in container.logs()


def test_a_plugin_sets_its_own_mode(kong: Launcher) -> None:
    """`engine` and `workers` in a plugin's module override the variables, for this plugin."""
    text = PY_HELLO.read_text(encoding="utf-8") + "\nengine = 'gevent'\nworkers = 2\n"
    plugins = kong.folder({"py-hello.py": PY_HELLO, "py-other.py": text})
    container = kong.start(plugins=plugins, config=declarative("py-hello", "py-other"))
    container.wait_until_serving()

    rows = json.loads(container.exec("kong-python", "plugins", "--json").stdout)
    assert {row["name"]: row["mode"] for row in rows} == {"py-hello": "loop", "py-other": "gevent, 2 workers"}
    assert len(container.pids_of_server("py-hello")) == 2
    assert len(container.pids_of_server("py-other")) == 3


def test_a_worker_that_is_killed_is_replaced_while_the_other_one_answers(kong: Launcher) -> None:
    """When one of two workers is killed, the server stays, the other worker answers, and soon there are two again."""
    container = start(kong, KONG_PYTHON_WORKERS="2")
    master, killed, other = container.pids_of_server("py-hello")
    container.expect(KILLED_WORKER, CALL_OF_KILLED_SERVER)
    container.kill("KILL", killed)
    container.wait_for_log("another one is started")

    container.wait_for(lambda: {status for status, _ in answers(container)} == {200}, "no more failures")
    container.wait_for(lambda: len(container.pids_of_server("py-hello")) == 3, "two workers")
    pids = container.pids_of_server("py-hello")
    assert master in pids and other in pids and killed not in pids
    assert container.stop() == 0
