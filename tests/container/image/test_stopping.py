"""The container stops in good order: requests are answered, no process is killed, and its status is Kong's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPException

import pytest
from container.log_lines import CUT_REQUEST, KILLED_KONG, Expected, failed_events
from container.product import PY_HELLO, TEST_PLUGINS, Kong, Launcher, declarative


def start(kong: Launcher, *names: str, drain: int = 7) -> Kong:
    files = {"py-hello.py": PY_HELLO, **{f"{name}.py": TEST_PLUGINS / f"{name}.py" for name in names}}
    env = {"KONG_PYTHON_DRAIN_SECONDS": str(drain)}
    container = kong.start(plugins=kong.folder(files), config=declarative("py-hello", *names), env=env)
    container.wait_until_serving()
    return container


def test_docker_stop(kong: Launcher) -> None:
    """docker stop ends the container with exit code 0 within Docker's ten seconds, and the log has no kill."""
    container = start(kong)

    assert container.stop() == 0
    assert "SIGKILL" not in container.logs()


def is_ready(container: Kong) -> bool:
    return container.exec("kong-python", "health", "--ready", check=False).exit_code == 0


@pytest.mark.parametrize("name", ["TERM", "INT", "QUIT"])
def test_a_signal(kong: Launcher, name: str) -> None:
    """Kubernetes sends SIGTERM, Control-C is SIGINT, docker stop sends SIGQUIT: each one stops Kong in good order."""
    container = start(kong)
    container.signal(name)

    assert container.wait_exit() == 0


@pytest.mark.parametrize("how", ["docker stop", "TERM", "INT", "QUIT"])
def test_an_open_request_is_answered(kong: Launcher, how: str) -> None:
    """A request that a handler processes when the container must stop gets its answer; others may go elsewhere."""
    container = start(kong, "waits")
    container.wait_for(lambda: is_ready(container), "ready")
    with ThreadPoolExecutor(2) as threads:
        request = threads.submit(container.request, "/wait")
        container.wait_for_log("waits: the request is here")
        stop = threads.submit(container.stop if how == "docker stop" else partial(container.signal, how))
        container.wait_for_log("signal 3 (SIGQUIT) received")
        container.wait_for(lambda: not is_ready(container), "not ready")
        assert not request.done()
        container.exec("touch", "/tmp/go")
        answer = request.result()
        stop.result()

    assert (answer.status, answer.body) == (200, b"waited to the end")
    assert container.wait_exit() == 0


def test_a_request_that_does_not_end_is_cut_off(kong: Launcher) -> None:
    """The limit is KONG_PYTHON_DRAIN_SECONDS. Then the container ends in good order, before the engine kills it."""
    container = start(kong, "waits", drain=1)
    container.expect(
        Expected("supervisord", "warn", r"Kong still runs after 1 s|waits", "the test lets a request wait without end"),
        Expected("waits", "warn|error", r"", "its handler does not end"),
        failed_events("waits"),
        CUT_REQUEST,
    )
    with ThreadPoolExecutor(1) as threads:
        request = threads.submit(container.request, "/wait")
        container.wait_for_log("waits: the request is here")
        assert container.stop(60) == 0
        with pytest.raises((OSError, HTTPException)):
            request.result()
    assert "Kong still runs after 1 s" in container.logs()


def test_stopped_while_it_starts(kong: Launcher) -> None:
    """A container that must stop before Kong runs ends at once, without a kill."""
    container = kong.start(plugins=kong.folder({"py-hello.py": PY_HELLO}), config=declarative("py-hello"))
    container.wait_for_log("kong-python: plugins from")

    assert container.stop() == 0


@pytest.mark.parametrize(("name", "status"), [("QUIT", 0), ("KILL", 137)])
def test_the_container_ends_when_kong_ends(kong: Launcher, name: str, status: int) -> None:
    """When Kong itself ends, for any reason, the container ends with Kong's status for its restart policy."""
    container = start(kong)
    container.expect(KILLED_KONG)
    container.kill(name, int(container.exec("supervisorctl", "pid", "kong").stdout))

    assert container.wait_exit() == status
