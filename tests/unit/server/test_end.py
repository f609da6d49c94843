"""The end of a server: what plugins have registered for it runs, in every mode, and does not keep the server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from unit.server.fake_kong import DEADLINE, Closed, FakeKong
from unit.server.served import MODES, PROTOCOLS, Serve, Served, connecting, serving

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
