"""The end of a server: atexit functions and close() run, in every mode, for a bounded time."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
from pathlib import Path

import pytest
from fake_kong import Closed, FakeKong, RpcError
from server_process import MODES, OTHER_PAIR, PAIR, Connect, Serve, Served, Start
from waiting import DEADLINE, wait_for

PLUGIN = """
import atexit
import logging
import threading
import time

queue = []

def send(lines):
    for line in lines:
        time.sleep(0.01)
        logging.warning("sent %s", line)

@atexit.register
def send_the_rest():
    sender = threading.Thread(target=send, args=(queue,), daemon=True)
    sender.start()
    sender.join()
    logging.warning("at the end")

class Plugin:
    def __init__(self, config):
        pass

    def log(self, kong):
        queue.append("the rest")

    def access(self, kong):
        kong.log.info("begun")
        while True:
            time.sleep(0.01)
"""
ENDLESS = """
import atexit
import time

@atexit.register
def wait():
    while True:
        time.sleep(0.01)

class Plugin:
    def __init__(self, config):
        pass

    def log(self, kong):
        pass
"""
CLOSES = """
import atexit
import logging
import os
import threading

atexit.register(lambda: logging.warning("at the end"))

class Plugin:
    def __init__(self, config):
        self.config = config
        self.is_busy = False
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.stopped.wait)
        self.thread.start()

    def log(self, kong):
        pass

    def access(self, kong):
        kong.log.info("begun")
        self.is_busy = True
        kong.request.get_header("host")
        assert self.thread.is_alive()
        self.is_busy = False

    def close(self):
        while self.config.get("hangs"):
            self.stopped.wait(1)
        self.stopped.set()
        self.thread.join()
        if self.is_busy:
            logging.warning("closed too early")
        logging.warning("closed %s in %d", self.config.get("name"), os.getpid())
"""
SENDS_ITSELF_A_SIGNAL = """
import signal

try:
    from gevent.monkey import get_original
except ImportError:
    import importlib
    get_original = lambda module, name: getattr(importlib.import_module(module), name)

sleep, thread, start = get_original("time", "sleep"), get_original("_thread", "get_ident"), \\
    get_original("_thread", "start_new_thread")

def send():
    sleep(0.2)
    signal.pthread_kill(thread(), signal.SIGTERM)

class Plugin:
    def __init__(self, config):
        pass

    def log(self, kong):
        start(send, ())
"""


# Runs in each worker: sets smaller limits for its end.
ENDS_BRIEFLY = """
import kong_pdk.stop_times
kong_pdk.stop_times.EVENTS = {drain}
kong_pdk.stop_times.ATEXIT = {end}
kong_pdk.stop_times.CLOSE = {close}
"""

# A server that keeps an instance for a shorter time once Kong has closed it.
FORGETS_SOONER = """
from kong_pdk.server.instances import instance_store
instance_store.CLOSED_SECONDS = 1.5
"""


def test_atexit_functions_run_in_each_worker(serve: Serve, connect: Connect) -> None:
    served = serve(PLUGIN)
    kong = connect(served)
    assert kong.event(kong.start("probe", {}), "log")
    kong.close()

    assert served.stop() == 0
    assert served.said().count("sent the rest") == 1
    assert served.said().count("at the end") == served.workers


def test_atexit_functions_run_when_a_handler_does_not_end(serve: Serve, connect: Connect) -> None:
    served = serve(ENDS_BRIEFLY.format(drain=0.5, end=3.0, close=1.5) + PLUGIN)
    kong = connect(served)
    instance = kong.start("probe", {})
    assert kong.event(instance, "log")

    ends: list[bool] = []
    hanging = threading.Thread(target=lambda: ends.append(kong.event(instance, "access")), daemon=True)
    hanging.start()
    while not any(name == "kong.log.info" for name, _ in kong.made):
        assert hanging.is_alive()
        hanging.join(0.01)

    assert served.stop() == 0
    hanging.join(DEADLINE)
    assert ends == [False]  # the master answers in the place of the worker
    assert kong.made[-1][1][0] == 500
    assert served.said().count("sent the rest") == 1
    assert served.said().count("at the end") == served.workers


@pytest.mark.parametrize("mode", PAIR)
def test_an_endless_atexit_function_does_not_keep_the_server_running(serve: Serve) -> None:
    served = serve(ENDS_BRIEFLY.format(drain=3.0, end=0.5, close=1.5) + ENDLESS)

    assert served.stop() == 0
    assert "is killed" not in served.said()


def test_a_signal_that_does_not_wake_the_main_thread_stops_a_worker(serve: Serve, connect: Connect) -> None:
    """Such a signal comes just before that thread falls asleep, and no connection wakes the thread."""
    served = serve(SENDS_ITSELF_A_SIGNAL)
    kong = connect(served)
    assert kong.event(kong.start("probe", {}), "log")
    served.wait_for_log("ended (exit code 0); another one is started")


def closing_workers(served: Served) -> set[str]:
    """The workers that have closed instance a; an event under way may make it again, and it is closed twice."""
    return set(re.findall(r"closed a in (\d+)\n", served.said()))


def in_every_worker(served: Served, connect: Connect, config: dict[str, object]) -> int:
    """Make an instance in every worker; Kong starts it once."""
    instance = connect(served).start("probe", config)
    for pid in served.pids():
        assert served.connect_to(pid).event(instance, "log")
    return instance


def test_instances_are_closed_before_atexit_functions_run(serve: Serve, connect: Connect) -> None:
    served = serve(CLOSES)
    in_every_worker(served, connect, {"name": "a"})

    assert served.stop() == 0
    lines = [line.partition("] probe: ")[2].partition(" in ")[0] for line in served.said().splitlines()]
    assert lines.count("closed a") == lines.count("at the end") == served.workers
    assert lines.index("closed a") < lines.index("at the end")
    assert "is killed" not in served.said()


@pytest.mark.parametrize(("mode", "protocol"), OTHER_PAIR.items())
def test_a_close_that_hangs_delays_neither_the_server_nor_atexit_functions(serve: Serve, connect: Connect) -> None:
    served = serve(ENDS_BRIEFLY.format(drain=3.0, end=3.0, close=0.3) + CLOSES)
    in_every_worker(served, connect, {"hangs": True})

    assert served.stop() == 0
    assert served.said().count("at the end") == served.workers
    assert served.said().count("close() of an instance has not returned") == served.workers
    assert "is killed" not in served.said()


@pytest.mark.parametrize(("mode", "protocol"), OTHER_PAIR.items())
def test_an_instance_that_kong_drops_is_closed_in_every_worker(serve: Serve, connect: Connect) -> None:
    served = serve(CLOSES, before=FORGETS_SOONER)
    first, second = connect(served), connect(served)
    instance = in_every_worker(served, connect, {"name": "a"})
    assert first.start("probe", {"name": "a"}) == instance
    assert second.start("probe", {"name": "b"}) != instance

    first.close_instance(instance)  # by one of the two workers of Kong that have started it
    first.close_instance(first.start("probe", {"name": "c"}))
    wait_for(lambda: "closed c in " in served.said(), served.said)
    for pid in served.pids():
        assert served.connect_to(pid).event(instance, "log")
    assert "closed a" not in served.said()

    second.close_instance(instance)
    assert first.event(instance, "log")  # it was on its way
    wait_for(lambda: len(closing_workers(served)) == served.workers, served.said)
    assert "closed b" not in served.said()


@pytest.mark.parametrize(("mode", "protocol"), PAIR.items())
def test_an_instance_is_closed_after_its_last_handler(serve: Serve, connect: Connect) -> None:
    served = serve(CLOSES, before=FORGETS_SOONER)
    kong, other = connect(served), connect(served)
    instance = in_every_worker(served, connect, {"name": "a"})
    begun, go_on, results = threading.Event(), threading.Event(), []

    def wait(name: str) -> str:
        begun.set()
        assert go_on.wait(DEADLINE)
        return name

    event = threading.Thread(
        target=lambda: results.append(kong.event(instance, "access", {"kong.request.get_header": wait}))
    )
    event.start()
    assert begun.wait(DEADLINE)
    other.close_instance(instance)

    def is_gone() -> bool:
        try:
            connect(served).event(instance, "log")
        except (Closed, RpcError):
            return True
        return False

    wait_for(is_gone)
    wait_for(lambda: len(closing_workers(served)) >= served.workers - 1, served.said)
    before = served.said().count("closed a in")  # a late event has an object of its own, which is closed after it
    go_on.set()
    event.join(DEADLINE)
    assert results == [True]
    wait_for(lambda: served.said().count("closed a in") > before, served.said)
    assert "closed too early" not in served.said()


DEDICATED = (
    CLOSES
    + """
from kong_pdk.cli import start_dedicated_server
start_dedicated_server("probe", Plugin, "1.0.0", 1, [{"name": {"type": "string"}}])
"""
)


@pytest.mark.parametrize("mode", ["threads", "gevent", "processes"])
def test_instances_of_a_plugin_that_serves_itself_are_closed(
    start: Start, connect: Connect, mode: str, tmp_path: Path
) -> None:
    plugin = tmp_path / "probe.py"
    plugin.write_text(DEDICATED)
    served = start(plugin, *MODES[mode])
    served.workers = int(MODES[mode][-1])
    in_every_worker(served, connect, {"name": "a"})
    assert served.stop() == 0
    assert len(closing_workers(served)) == served.workers


BUSY = """
class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        for _ in range(3):
            kong.request.get_header("host")
        kong.response.set_header("x", "y")
"""


def test_a_stop_cuts_no_event(serve: Serve, connect: Connect, protocol: type[FakeKong]) -> None:
    """What has begun is served. The next event is answered by closing, over MsgPack:1 by a 500 at last."""
    served = serve(BUSY)
    instance = connect(served).start("probe", {})
    kongs = [connect(served) for _ in range(4)]
    counts = [0] * len(kongs)

    def send_requests(number: int) -> None:
        kong = kongs[number]
        with contextlib.suppress(Closed, OSError, RpcError):
            while True:
                kong.made.clear()
                if not kong.event(instance, "access", {"kong.request.get_header": "x"}):
                    refused = kong.made.pop()
                    assert refused[1][0] == 500
                    return
                counts[number] += 1

    clients = [threading.Thread(target=send_requests, args=(number,), daemon=True) for number in range(len(kongs))]
    for client in clients:
        client.start()
    wait_for(lambda: min(counts) > 20)
    assert served.stop() == 0
    for client in clients:
        client.join(DEADLINE)
    assert not any(kong.made for kong in kongs)
    assert "still running" not in served.said()


@pytest.mark.parametrize("mode", ["loop", "threads"])
def test_an_idle_connection_is_closed_late(serve: Serve, connect: Connect) -> None:
    """Kong may be about to use it. An event that comes meanwhile is answered by closing: Kong begins it anew."""
    served = serve(BUSY, before="import kong_pdk.stop_times\nkong_pdk.stop_times.LINGER = 30.0\n")
    kong, other = connect(served), connect(served)
    instance = kong.start("probe", {})
    for each in (kong, other):
        assert each.event(instance, "access", {"kong.request.get_header": "x"})
    served.process.send_signal(signal.SIGTERM)
    pids = children_of(served.process.pid)
    wait_for(lambda: not children_of(served.process.pid), lambda: pids)
    with pytest.raises((Closed, OSError)):
        kong.event(instance, "access")
    assert not kong.made[4:]
    other.close()
    assert served.process.wait(DEADLINE) == 0


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
