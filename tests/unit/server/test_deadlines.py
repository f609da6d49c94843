"""Events that take too long: the request gets its answer at the timeout, and the handler an exception."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fake_kong import Closed, RpcError
from gevent import monkey
from kong_pdk import logs
from kong_pdk.server import deadlines
from waiting import DEADLINE, wait_for

ON_GEVENT = bool(monkey.is_module_patched("threading"))
TIMEOUT = 0.3


class Seen:
    """What handlers have done."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.unwound: list[str] = []
        self.raised: list[BaseException] = []


@pytest.fixture
def seen(monkeypatch):
    monkeypatch.setattr(deadlines, "LONGEST_PAUSE", 0.05)
    return Seen()


def plugin_of(seen, work):
    """A plugin whose handlers work without end."""

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            try:
                while True:
                    work()
            finally:
                seen.unwound.append("access")

        response = certificate = preread = rewrite = log = access

    return Plugin


def async_plugin_of(seen, work, ending_seconds=0):
    """The same with handlers that are coroutines.

    :param ending_seconds: how long they await something at their end.
    """

    class Plugin:
        def __init__(self, config):
            pass

        async def access(self, kong):
            try:
                while True:
                    if (awaited := work()) is not None:
                        await awaited
            finally:
                await asyncio.sleep(ending_seconds)
                seen.unwound.append("access")

        log = access

    return Plugin


def goes_on(told_to_end):
    """A plugin whose handlers go on, whatever is raised in them, until they are told to end."""

    class Plugin:
        def __init__(self, config):
            pass

        async def access(self, kong):
            while not told_to_end.is_set():
                with contextlib.suppress(BaseException):
                    await asyncio.sleep(0.01)

    return Plugin


def sleeps(seen):
    return plugin_of(seen, lambda: time.sleep(0.01))


def computes(seen):
    return plugin_of(seen, lambda: sum(range(1000)))


def awaits(seen):
    return async_plugin_of(seen, lambda: asyncio.sleep(DEADLINE))


def blocks_asyncio(seen):
    return async_plugin_of(seen, lambda: time.sleep(0.01))


# A handler that holds the hub of gevent stops all of the process; its master ends it (tests/integration).
KINDS = [sleeps, awaits] if ON_GEVENT else [sleeps, computes, awaits, blocks_asyncio]


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_gets_500_at_the_timeout_and_the_handler_an_exception(serve, connect, seen, kind, caplog):
    path = serve(kind(seen), timeout=TIMEOUT)
    kong = connect(path)
    instance = kong.start("probe")
    begun = time.monotonic()
    assert not kong.event(instance, "access")
    assert kong.status() == 500
    assert time.monotonic() - begun >= TIMEOUT
    wait_for(lambda: seen.unwound == ["access"])
    assert "probe: access has taken longer than 0.3 s, its timeout: the event is ended" in caplog.text
    assert f"({__file__}:" in caplog.text


@pytest.mark.parametrize("phase", ["certificate", "rewrite", "response", "preread"])
def test_every_phase_of_a_request_fails_closed(serve, connect, seen, phase):
    path = serve(sleeps(seen), timeout=TIMEOUT)
    kong = connect(path)
    assert not kong.event(kong.start("probe"), phase)
    assert kong.status() == 500


@pytest.mark.parametrize("kind", KINDS)
def test_log_ends_in_good_order_and_its_connection_goes_on(serve, connect, seen, kind):
    path = serve(kind(seen), timeout=TIMEOUT)
    kong = connect(path)
    instance = kong.start("probe")
    for _ in range(3):
        assert kong.event(instance, "log")
    wait_for(lambda: len(seen.unwound) == 3)


def test_a_plugin_that_fails_open_lets_the_request_pass(serve, connect, seen):
    path = serve(sleeps(seen), timeout=TIMEOUT, on_error="open")
    kong = connect(path)
    instance = kong.start("probe")
    assert kong.event(instance, "access")
    assert kong.event(instance, "access")


def test_a_handler_that_makes_calls_without_end_is_ended(serve, connect, seen):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            try:
                while True:
                    kong.request.get_header("host")
            finally:
                seen.unwound.append("access")

    path = serve(Plugin, timeout=TIMEOUT)
    kong = connect(path)
    assert not kong.event(kong.start("probe"), "access")
    assert kong.status() == 500
    wait_for(lambda: seen.unwound == ["access"])


def test_time_in_which_kong_works_does_not_count(serve, connect, seen):
    """A body that a slow client sends, for example."""

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.request.get_header("slow")
            kong.response.set_header("x", "y")

    def answer_late(_: str) -> str:
        time.sleep(4 * TIMEOUT)
        return "value"

    path = serve(Plugin, timeout=TIMEOUT)
    kong = connect(path)
    assert kong.event(kong.start("probe"), "access", {"kong.request.get_header": answer_late})


def test_a_handler_that_does_not_end_makes_no_more_calls(serve, connect, seen, caplog):
    go_on = threading.Event()

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            seen.begun.set()
            while not go_on.is_set():
                try:
                    go_on.wait(0.01)
                except BaseException:  # noqa: PERF203  # what ends it, again and again
                    continue
            try:
                kong.response.set_header("too", "late")
            except BaseException as error:
                seen.raised.append(error)
                raise

    path = serve(Plugin, timeout=TIMEOUT)
    kong, other = connect(path), connect(path)
    instance = kong.start("probe")
    assert not kong.event(instance, "access")
    assert kong.status() == 500
    kong.made.clear()
    go_on.set()
    wait_for(lambda: seen.raised)
    assert other.event(instance, "access")
    assert kong.made == []


def test_an_instance_that_is_not_made_in_time_is_refused(serve, connect, seen, caplog):
    go_on = threading.Event()

    class Plugin:
        def __init__(self, config):
            if config.get("slow"):
                go_on.wait(DEADLINE)

        def log(self, kong):
            pass

    path = serve(Plugin, timeout=TIMEOUT)
    with pytest.raises((Closed, RpcError)):
        connect(path).start("probe", {"slow": True})
    go_on.set()
    kong = connect(path)
    assert kong.event(kong.start("probe", {"slow": False}), "log")
    assert "probe: __init__ has taken longer than 0.3 s, its timeout" in caplog.text


def test_no_timeout_is_no_limit(serve, connect, seen, monkeypatch):
    monkeypatch.setenv("KONG_PYTHON_TIMEOUT", "0")

    class Plugin:
        def __init__(self, config):
            pass

        def log(self, kong):
            time.sleep(3 * TIMEOUT)

    path = serve(Plugin)
    kong = connect(path)
    assert kong.event(kong.start("probe"), "log")


def test_the_environment_has_the_timeout_of_plugins_without_their_own(serve, connect, seen, monkeypatch, caplog):
    monkeypatch.setenv("KONG_PYTHON_TIMEOUT", "0.25")
    path = serve(sleeps(seen))
    kong = connect(path)
    assert not kong.event(kong.start("probe"), "access")
    assert "longer than 0.25 s" in caplog.text


def test_many_late_events_at_once(serve, connect, seen):
    path = serve(sleeps(seen), timeout=TIMEOUT)
    instance = connect(path).start("probe")
    results: list[Any] = []

    def request() -> None:
        kong = connect(path)
        results.append((kong.event(instance, "access"), kong.status()))

    threads = [threading.Thread(target=request) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(DEADLINE)
    assert results == [(False, 500)] * 20
    wait_for(lambda: len(seen.unwound) == 20)


def test_an_event_whose_instance_hangs_in_this_worker_fails(serve, connect, seen, monkeypatch):
    """Another worker has made the instance; here its ``__init__`` does not return in time."""
    go_on = threading.Event()
    hangs: list[bool] = []
    ran: list[bool] = []

    class Plugin:
        def __init__(self, config):
            if hangs:
                go_on.wait(DEADLINE)

        def access(self, kong):
            ran.append(True)

    path = serve(Plugin, timeout=TIMEOUT)
    kong = connect(path)
    instance = kong.start("probe")
    server = serve.server(path)
    server.instances._instances.clear()
    hangs.append(True)
    assert not kong.event(instance, "access")
    assert kong.status() == 500
    assert server._deadlines.stuck == 1
    go_on.set()
    wait_for(lambda: server._deadlines.stuck == 0)
    assert not ran  # Kong has its answer
    kong = connect(path)
    assert kong.event(instance, "access")


def test_handlers_that_log_are_interrupted_without_harm(serve, connect, seen):
    """An exception in the middle of a line must not leave the lock of the log to nobody."""
    if ON_GEVENT:
        pytest.skip("a handler that computes holds gevent's hub")
    output = io.StringIO()
    log = logs._Output(output, logs._FORMATTERS["text"]("probe"), logging.INFO)
    record = logging.LogRecord("probe", logging.INFO, __file__, 1, "x", (), None)

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            while True:
                log.handle(record)

    path = serve(Plugin, timeout=TIMEOUT)
    instance = connect(path).start("probe")
    for _ in range(3):
        kongs = [connect(path) for _ in range(4)]
        threads = [threading.Thread(target=kong.event, args=(instance, "access")) for kong in kongs]
        for each in threads:
            each.start()
        for each in threads:
            each.join(DEADLINE)
        assert [kong.status() for kong in kongs] == [500] * 4
        wait_for(lambda: serve.server(path)._deadlines.stuck == 0)
        writes = threading.Thread(target=log.handle, args=(record,), daemon=True)
        writes.start()
        writes.join(DEADLINE)
        assert not writes.is_alive()


def test_what_is_stuck_is_told_once(serve, connect, seen, monkeypatch):
    if ON_GEVENT:
        pytest.skip("a handler that swallows all exceptions holds gevent's hub")
    monkeypatch.setattr("kong_pdk.server.deadlines.MOST_STUCK", 3)
    told: list[tuple[str, bool]] = []
    go_on = threading.Event()

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            while not go_on.is_set():
                try:
                    go_on.wait(0.01)
                except BaseException:  # noqa: PERF203
                    continue

    path = serve(Plugin, timeout=TIMEOUT)
    serve.server(path)._on_stuck = lambda *said: told.append(said)
    instance = connect(path).start("probe")
    for _ in range(4):
        assert not connect(path).event(instance, "access")
    wait_for(lambda: told)
    go_on.set()
    assert told == [("has too many handlers that do not end", False)]


@pytest.mark.parametrize("work", [lambda: asyncio.sleep(DEADLINE), lambda: time.sleep(0.01)])
def test_what_an_async_handler_does_to_end_is_not_cancelled(serve, connect, seen, work):
    if ON_GEVENT:
        pytest.skip("a handler that holds asyncio's loop holds gevent's hub")
    kong = connect(serve(async_plugin_of(seen, work, 0.05), timeout=TIMEOUT))
    assert not kong.event(kong.start("probe"), "access")
    wait_for(lambda: seen.unwound == ["access"])


@pytest.mark.parametrize("how", ["plain", "async"])
def test_time_in_the_queue_is_not_the_handlers(serve, connect, seen, monkeypatch, how):
    """The last of five events begins after twice the timeout."""
    monkeypatch.setenv("KONG_PYTHON_CONCURRENCY", "1")

    class Plain:
        def __init__(self, config):
            pass

        def access(self, kong):
            time.sleep(TIMEOUT * 0.6)

    class Async(Plain):
        async def access(self, kong):
            await asyncio.sleep(TIMEOUT * 0.6)

    path = serve({"plain": Plain, "async": Async}[how], timeout=TIMEOUT * 2)
    kongs = [connect(path) for _ in range(5)]
    instance = kongs[0].start("probe")
    with ThreadPoolExecutor(5) as threads:
        assert [*threads.map(lambda kong: kong.event(instance, "access"), kongs)] == [True] * 5


def test_where_few_handlers_run_half_of_them_are_enough(serve, connect, seen, monkeypatch):
    if ON_GEVENT:
        pytest.skip("a handler that swallows all exceptions holds gevent's hub")
    monkeypatch.setenv("KONG_PYTHON_CONCURRENCY", "4")
    told: list[tuple[str, bool]] = []
    told_to_end = threading.Event()
    path = serve(goes_on(told_to_end), timeout=TIMEOUT)
    serve.server(path)._on_stuck = lambda *said: told.append(said)
    instance = connect(path).start("probe")
    for _ in range(2):
        assert not connect(path).event(instance, "access")
    wait_for(lambda: told)
    told_to_end.set()
    assert told == [("has too many handlers that do not end", False)]


def test_a_handler_that_goes_on_after_its_answer_is_interrupted_as_others_are(serve, connect, seen):
    """Kong has its answer. At each further look it would be interrupted in what it does to end."""
    if ON_GEVENT:
        pytest.skip("a handler that swallows all exceptions holds gevent's hub")
    go_on = threading.Event()

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            try:
                kong.response.exit(403)
            finally:
                while not go_on.is_set():
                    try:
                        go_on.wait(0.01)
                    except BaseException as error:  # noqa: PERF203
                        seen.raised.append(error)

    path = serve(Plugin, timeout=TIMEOUT)
    instance = connect(path).start("probe")
    assert not connect(path).event(instance, "access")
    server = serve.server(path)
    wait_for(lambda: server._deadlines.stuck == 1)
    looks = server._deadlines._looked_at
    wait_for(lambda: server._deadlines._looked_at > looks + 10 * 0.05)
    assert len(seen.raised) == 1
    go_on.set()
    wait_for(lambda: server._deadlines.stuck == 0)


def test_looks_do_not_multiply(serve, connect, monkeypatch):
    """Each moment in which an engine is full asks for an earlier look. The later one must not take place as well."""
    monkeypatch.setenv("KONG_PYTHON_CONCURRENCY", "2")
    go_on = threading.Event()

    class Plugin:
        def __init__(self, config):
            pass

        async def access(self, kong):
            await asyncio.sleep(0.02)

        async def rewrite(self, kong):
            while not go_on.is_set():
                await asyncio.sleep(0.01)

    path = serve(Plugin, timeout=DEADLINE)
    kongs = [connect(path) for _ in range(4)]
    instance = kongs[0].start("probe")
    with ThreadPoolExecutor(5) as threads:
        holds = threads.submit(connect(path).event, instance, "rewrite")
        for _ in range(20):
            assert all(threads.map(lambda kong: kong.event(instance, "access"), kongs))
        timers = serve.server(path).loop._timers
        wait_for(lambda: len(timers) <= 1, lambda: f"{len(timers)} timers")
        go_on.set()
        assert holds.result(DEADLINE)


def test_a_stop_says_that_a_handler_goes_on_after_its_timeout(serve, connect, seen):
    """The interpreter must not be finalized under it."""
    if ON_GEVENT:
        pytest.skip("a handler that swallows all exceptions holds gevent's hub")
    told_to_end = threading.Event()
    path = serve(goes_on(told_to_end), timeout=TIMEOUT)
    kong = connect(path)
    assert not kong.event(kong.start("probe"), "access")
    wait_for(lambda: serve.server(path)._deadlines.stuck == 1)
    assert not serve.stop(path)
    told_to_end.set()
