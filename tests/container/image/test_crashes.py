"""A client that can crash or hang a worker of a plugin gets a 500, switches nothing off, and holds nobody up."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from container.log_lines import Expected
from container.product import TEST_PLUGINS, Kong, Launcher, declarative

TROUBLE = (
    Expected("crashes", "error", r"", "the test ends and hangs the plugin's workers"),
    Expected("kong", "warn|error", r"\[(crashes|rpc|pb_rpc|mp_rpc)|plugin_servers?/", "Kong logs the 500 of an event"),
)


@pytest.fixture(scope="module", params=["protobuf", "msgpack"])
def node(shared: Launcher, request: pytest.FixtureRequest) -> Iterator[Kong]:
    container = shared.start(
        plugins=shared.folder({"crashes.py": TEST_PLUGINS / "crashes.py"}),
        config=declarative("crashes"),
        env={"KONG_PYTHON_PROTOCOL": request.param, "KONG_PYTHON_TIMEOUT": "1"},
        expected=TROUBLE,
    )
    container.wait_until_serving(status=403)
    yield container


def ends(node: Kong, how: str) -> int:
    """How many workers have ended in a way."""
    return sum(f"ended ({how})" in line.text for line in node.lines("crashes"))


def status(node: Kong, **headers: str) -> int:
    return node.request(headers={f"x-{name}": value for name, value in headers.items()}).status


@pytest.mark.parametrize(("wish", "how"), [("exit", "exit code 3"), ("crash", "SIGABRT")])
def test_a_request_that_ends_its_worker_gets_500_once(node: Kong, wish: str, how: str) -> None:
    """Kong does not repeat it, and none of the requests beside it passes."""
    before = ends(node, how)
    with ThreadPoolExecutor(12) as pool:
        others = [pool.submit(status, node) for _ in range(11)]
        assert status(node, access=wish) == 500
        beside = [other.result() for other in others]
    assert set(beside) <= {403, 500}
    assert status(node) == 403
    node.wait_for(lambda: ends(node, how) == before + 1, "the worker's end is in the log")


def test_requests_that_end_workers_again_and_again_hold_nobody_up(node: Kong) -> None:
    """Each is answered, and so is each one that follows."""
    for _ in range(5):
        assert status(node, access="exit") == 500
        assert status(node) == 403


def test_a_worker_that_ends_in_log_concerns_no_request(node: Kong) -> None:
    """The client has its answer, and the requests after the worker's end get theirs."""
    for _ in range(3):
        before = ends(node, "exit code 3")
        assert status(node, log="exit") == 403
        node.wait_for(lambda before=before: ends(node, "exit code 3") > before, "the worker's end is in the log")
        assert [status(node) for _ in range(4)] == [403] * 4


@pytest.mark.parametrize("wish", ["sleep", "hang"])
def test_a_handler_that_does_not_end_gets_500_at_its_timeout(node: Kong, wish: str) -> None:
    """Also where it holds Python's lock, so that its worker does nothing else any more."""
    assert status(node, access=wish) == 500
    assert status(node) == 403


def test_workers_that_are_killed_under_load_let_nothing_pass(node: Kong) -> None:
    """Every answer is the plugin's, or a 500."""
    with ThreadPoolExecutor(4) as pool:
        load = [pool.submit(status, node) for _ in range(200)]
        for _ in range(3):
            pid = node.wait_for(lambda: node.request().headers.get("x-pid"), "the plugin answers")
            node.exec("sh", "-c", f"kill -9 {pid}", check=False)
        statuses = {each.result() for each in load}
    assert 403 in statuses
    assert statuses <= {403, 500}
