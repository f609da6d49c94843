"""More events than a server runs and lets wait: what is over the limits gets 503 at once."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from fake_kong import FakeKong, ProtobufKong
from gevent import monkey
from kong_pdk.metrics import recorder
from kong_pdk.metrics.counter_file import read_counters
from kong_pdk.metrics.counter_layout import BLOCKS, REFUSED
from waiting import DEADLINE, wait_for

ON_GEVENT = monkey.is_module_patched("threading")
PHASES = ["rewrite", "access", "response"]


class Holding:
    """A plugin whose handlers wait for Kong's answer to a call, which the test gives."""

    def __init__(self, config: Any) -> None:
        pass

    def access(self, kong: Any) -> None:
        kong.request.get_path()

    rewrite = response = log = certificate = preread = access


class Held:
    """Events whose handlers wait for Kong."""

    def __init__(self, count: int, open_connection: Any, instance: int) -> None:
        self.begun = threading.Semaphore(0)
        self._go_on = threading.Event()
        self._threads = ThreadPoolExecutor(count)
        self.results = [
            self._threads.submit(
                open_connection().event,
                instance,
                "access",
                {"kong.request.get_path": self._answer},
            )
            for _ in range(count)
        ]

    def _answer(self) -> str:
        self.begun.release()
        assert self._go_on.wait(DEADLINE)
        return "/"

    def wait_for(self, count: int) -> None:
        """Wait until so many handlers have begun."""
        for _ in range(count):
            assert self.begun.acquire(timeout=DEADLINE)

    def end(self) -> list[bool]:
        self._go_on.set()
        results = [result.result(DEADLINE) for result in self.results]
        self._threads.shutdown()
        return results


def overloaded(kong: FakeKong) -> bool:
    """Whether the last call is the answer for an overload."""
    name, args = kong.made[-1]
    if name == "kong.response.error":
        return args == [503, "The server is overloaded", {"Retry-After": "1"}]
    status, body, headers = args
    assert name == "kong.response.exit"
    assert "The server is overloaded" in (body.decode() if isinstance(body, bytes) else body)
    return bool(status == 503 and headers["Retry-After"] == "1")


@pytest.fixture
def limits(monkeypatch):
    """Set how many events run and wait."""

    def set_limits(running: int, waiting: int) -> None:
        monkeypatch.setenv("KONG_PYTHON_CONCURRENCY", str(running))
        monkeypatch.setenv("KONG_PYTHON_QUEUE", str(waiting))

    return set_limits


def waiting(server: Any) -> int:
    return sum(len(engine._waiting) for engine in {*server._engines})


def test_what_is_over_the_limits_gets_503_at_once(serve, connect, limits, caplog):
    limits(2, 3)
    path = serve(Holding)
    kong = connect(path)
    instance = kong.start("probe")
    held = Held(5, lambda: connect(path), instance)
    held.wait_for(2)
    wait_for(lambda: waiting(serve.server(path)) == 3)
    for phase in PHASES:
        kong = connect(path)
        assert not kong.event(instance, phase)
        assert overloaded(kong)
    assert "probe: response is refused, since too many events run and wait" in caplog.text
    assert held.end() == [True] * 5
    assert connect(path).event(instance, "access")


@pytest.mark.parametrize("phase", ["certificate", "preread"])
def test_without_a_request_the_status_is_all_of_it(serve, connect, limits, phase):
    limits(1, 0)
    path = serve(Holding)
    kong = connect(path)
    instance = kong.start("probe")
    held = Held(1, lambda: connect(path), instance)
    held.wait_for(1)
    assert not kong.event(instance, phase)
    assert (kong.made[-1][0], kong.status()) == ("kong.response.exit", 503)
    assert held.end() == [True]


def test_log_is_dropped_and_a_plugin_that_fails_open_lets_pass_on_the_same_connection(serve, connect, limits):
    limits(1, 0)
    path = serve(Holding, on_error="open")
    kong = connect(path)
    instance = kong.start("probe")
    held = Held(1, lambda: connect(path), instance)
    held.wait_for(1)
    for phase in ("log", "access", "log"):
        assert kong.event(instance, phase)
    assert kong.made == []
    assert held.end() == [True]
    # The other event may hold its place for a moment after its answer.
    wait_for(lambda: kong.event(instance, "access", {"kong.request.get_path": "/"}) and kong.made)
    assert kong.made == [("kong.request.get_path", [])]


def test_refused_events_are_counted(serve, connect, limits, tmp_path, monkeypatch):
    limits(1, 0)
    counters = tmp_path / "counters"
    counters.mkdir()
    counting = recorder.Recorder(counters, "probe", ["access"], 0, 1)
    monkeypatch.setitem(recorder._recorders, "probe", counting)
    path = serve(Holding)
    kong = connect(path)
    instance = kong.start("probe")
    held = Held(1, lambda: connect(path), instance)
    held.wait_for(1)
    for _ in range(3):
        assert not connect(path).event(instance, "access")
    assert held.end() == [True]
    counting.write()
    (_, _, numbers), *_ = read_counters(counters)
    assert numbers[BLOCKS["access"] + REFUSED] == 3


@pytest.fixture
def hold_loop(serve, engine, monkeypatch):
    """Start a server, a handler that computes on its loop until it is told to go on, and more connections."""
    if engine == "threads" or ON_GEVENT:
        pytest.skip("no handler holds the loop, or the test's own threads would wait for it")
    monkeypatch.setenv("KONG_PYTHON_BLOCKING_MILLISECONDS", "60000")
    begun, go_on = threading.Event(), threading.Event()
    opened: list[ProtobufKong] = []

    class Plugin(Holding):
        def access(self, kong):
            begun.set()
            assert go_on.wait(DEADLINE)

    @contextmanager
    def held(connections):
        """Give the connections, the instance, and a function that waits until the loop has so many to read."""
        path = serve(Plugin)
        opened.extend(ProtobufKong(path) for _ in range(connections + 1))
        ids = {each.start("probe") for each in opened}
        epoll = serve.server(path).loop._epoll
        with ThreadPoolExecutor(1) as thread:
            holds = thread.submit(opened[0].event, *ids, "access")
            assert begun.wait(DEADLINE)
            yield opened[1:], *ids, lambda number: wait_for(lambda: len(epoll.poll(0)) == number)
            go_on.set()
            assert holds.result(DEADLINE)

    yield held
    for each in opened:
        each.close()


def test_connections_that_kong_closes_are_no_events(hold_loop, limits):
    limits(1, 1)
    with ThreadPoolExecutor(1) as thread:
        with hold_loop(13) as ((first, *others), instance, until_readable):
            asked = thread.submit(first.event, instance, "rewrite", {"kong.request.get_path": "/"})
            for each in others:
                each.close()
            until_readable(13)
        assert asked.result(DEADLINE)


@pytest.mark.parametrize(("running", "waiting", "served"), [(1, 3, 4), (4, 3, 7), (8, 3, 11), (9, 3, 12), (1, 11, 12)])
def test_events_that_are_not_read_yet_wait_as_well(hold_loop, limits, running, waiting, served):
    """While a handler computes, events wait in the sockets: the loop finds them all at once, and counts them first."""
    limits(running, waiting)
    answer = threading.Event()

    def get_path() -> str:
        assert answer.wait(DEADLINE)
        return "/"

    with ThreadPoolExecutor(12) as threads:
        with hold_loop(12) as (others, instance, until_readable):
            calls = {"kong.request.get_path": get_path}
            asked = [threads.submit(each.event, instance, "rewrite", calls) for each in others]
            until_readable(12)
        wait_for(lambda: sum(each.done() for each in asked) == 12 - served)
        answer.set()
        counted = Counter(each.result(DEADLINE) for each in asked)
    assert (counted[True], counted[False]) == (served, 12 - served)
    assert all(overloaded(each) for each in others if each.made[-1][0] != "kong.request.get_path")


def test_what_waits_at_a_stop_is_served_while_there_is_time(serve, connect, limits):
    limits(1, 3)
    path = serve(Holding)
    instance = connect(path).start("probe")
    held = Held(3, lambda: connect(path), instance)
    held.wait_for(1)
    server = serve.server(path)
    wait_for(lambda: waiting(server) == 2)
    server.stop()
    wait_for(lambda: server.is_stopping)
    assert held.end() == [True] * 3
