"""The end of a server: what plugins have registered for it runs, in every mode, and does not keep the server."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_kong import DEADLINE, Closed, FakeKong, RpcError
from unit.server.server_process import MODES, PROTOCOLS, Serve, Served, connecting, serving, wait_for

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
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.stopped.wait)
        self.thread.start()

    def log(self, kong):
        pass

    def access(self, kong):
        kong.log.info("begun")
        kong.request.get_header("host")
        assert self.thread.is_alive()

    def close(self):
        while self.config.get("hangs"):
            self.stopped.wait(1)
        self.stopped.set()
        self.thread.join()
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


@pytest.fixture(params=MODES)
def serve(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Serve a plugin, given as the text of its file, in each mode."""
    yield from serving(tmp_path, request.param)


FORGETS_SOONER = """
import sys
from kong_pdk.server import instance_store
instance_store.CLOSED_SECONDS = 1.5
from kong_pdk.server.command_line import folder_main
sys.exit(folder_main())
"""


@pytest.fixture(params=MODES)
def serve_forgetful(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Serve]:
    """The same by a server that keeps an instance not quite as long once Kong has closed it."""
    yield from serving(tmp_path, request.param, [sys.executable, "-c", FORGETS_SOONER])


@pytest.fixture(params=PROTOCOLS, ids=lambda kind: kind.name)
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[Served], FakeKong]]:
    """Connect to a server, over one protocol and the other."""
    yield from connecting(request.param)


def test_what_is_registered_for_the_end_runs_in_each_worker(
    serve: Serve, connect: Callable[[Served], FakeKong]
) -> None:
    served = serve(PLUGIN)
    kong = connect(served)
    assert kong.event(kong.start("probe", {}), "log")
    kong.close()

    assert served.stop() == 0
    assert served.said().count("sent the rest") == 1
    assert served.said().count("at the end") == served.workers


def test_it_runs_when_a_handler_does_not_end(serve: Serve, connect: Callable[[Served], FakeKong]) -> None:
    served = serve(PLUGIN)
    kong = connect(served)
    instance = kong.start("probe", {})
    assert kong.event(instance, "log")

    def hang() -> None:
        with pytest.raises((Closed, OSError)):
            kong.event(instance, "access")

    hanging = threading.Thread(target=hang, daemon=True)
    hanging.start()
    while not any(name == "kong.log.info" for name, _ in kong.made):
        assert hanging.is_alive()
        hanging.join(0.01)

    assert served.stop() == 0
    hanging.join(DEADLINE)
    assert served.said().count("sent the rest") == 1
    assert served.said().count("at the end") == served.workers


def test_it_does_not_keep_the_server(serve: Serve) -> None:
    served = serve(ENDLESS)

    assert served.stop() == 0
    assert "is killed" not in served.said()


def test_a_signal_that_does_not_wake_the_main_thread_stops_a_worker(
    serve: Serve, connect: Callable[[Served], FakeKong]
) -> None:
    """As one does that comes just before that thread falls asleep. Nobody connects any more."""
    served = serve(SENDS_ITSELF_A_SIGNAL)
    kong = connect(served)
    assert kong.event(kong.start("probe", {}), "log")
    served.wait_for_log("ended (exit code 0); another one is started")


def in_every_worker(served: Served, connect: Callable[[Served], FakeKong], config: dict[str, object]) -> int:
    """Have an instance made by every worker; Kong starts it once."""
    instance = connect(served).start("probe", config)
    for pid in served.pids():
        assert served.connect_to(pid).event(instance, "log")
    return instance


def test_instances_are_closed_at_the_end_before_what_is_registered_for_it(
    serve: Serve, connect: Callable[[Served], FakeKong]
) -> None:
    served = serve(CLOSES)
    in_every_worker(served, connect, {"name": "a"})

    assert served.stop() == 0
    lines = [line.partition("] probe: ")[2].partition(" in ")[0] for line in served.said().splitlines()]
    assert lines.count("closed a") == lines.count("at the end") == served.workers
    assert lines.index("closed a") < lines.index("at the end")
    assert "is killed" not in served.said()


def test_one_that_does_not_close_keeps_neither_the_server_nor_what_is_registered(
    serve: Serve, connect: Callable[[Served], FakeKong]
) -> None:
    served = serve(CLOSES)
    in_every_worker(served, connect, {"hangs": True})

    assert served.stop() == 0
    assert served.said().count("at the end") == served.workers
    assert served.said().count("close() of an instance has not returned") == served.workers
    assert "is killed" not in served.said()


def test_an_instance_that_kong_drops_is_closed_in_every_worker(
    serve_forgetful: Serve, connect: Callable[[Served], FakeKong]
) -> None:
    served = serve_forgetful(CLOSES)
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
    wait_for(lambda: served.said().count("closed a in ") == served.workers, served.said)
    assert "closed b" not in served.said()


def test_an_instance_is_closed_after_its_last_handler(
    serve_forgetful: Serve, connect: Callable[[Served], FakeKong]
) -> None:
    served = serve_forgetful(CLOSES)
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
    wait_for(lambda: served.said().count("closed a in ") == served.workers - 1, served.said)
    go_on.set()
    event.join(DEADLINE)
    assert results == [True]
    wait_for(lambda: served.said().count("closed a in ") == served.workers, served.said)


DEDICATED = (
    CLOSES
    + """
from kong_pdk.cli import start_dedicated_server
start_dedicated_server("probe", Plugin, "1.0.0", 1, [{"name": {"type": "string"}}])
"""
)


@pytest.mark.parametrize("options", [(), ("-g",), ("--workers", "2")], ids=["alone", "gevent", "processes"])
def test_instances_of_a_plugin_that_serves_itself_are_closed(
    tmp_path: Path, connect: Callable[[Served], FakeKong], options: tuple[str, ...]
) -> None:
    plugin, log = tmp_path / "probe.py", tmp_path / "log"
    plugin.write_text(DEDICATED)
    with log.open("w") as output:
        command = [sys.executable, str(plugin), "-p", str(tmp_path), *options]
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    served = Served(process, tmp_path / "probe.socket", log, plugin, 2 if "2" in options else 1)
    try:
        wait_for(served.socket.exists, served.said)
        in_every_worker(served, connect, {"name": "a"})
        assert served.stop() == 0
        assert served.said().count("closed a in ") == served.workers
    finally:
        served.end()
