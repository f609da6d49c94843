"""A worker that hangs: its master ends it, and answers in its place at the timeout."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from fake_kong import Closed, RpcError
from programs import PLUGINSERVER
from server_process import OTHER_PAIR, PAIR, Connect, Serve, Start
from waiting import DEADLINE, wait_for

TIMEOUT = {"KONG_PYTHON_TIMEOUT": "1"}

# A regular expression that never ends holds Python's lock, so that no other thread of the worker runs.
PLUGIN = """
import re
import time

lua_style = False

class Plugin:
    def __init__(self, config):
        if config.get("hangs"):
            re.match("(a+)+$", "a" * 60 + "!")

    def access(self, kong):
        if kong.request.get_header("x-hang"):
            re.match("(a+)+$", "a" * 60 + "!")
        return kong.response.exit(403)

    def log(self, kong):
        if kong.request.get_header("x-hang"):
            re.match("(a+)+$", "a" * 60 + "!")
"""
NEVER_READY = """
import time
time.sleep(3600)

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        pass
"""
CRASHES = """
import ctypes

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        ctypes.string_at(0)
"""
HANGS = {"kong.request.get_header": "yes"}


def test_a_worker_without_python_is_replaced_and_its_events_get_500(serve: Serve, connect: Connect) -> None:
    served = serve(PLUGIN, **TIMEOUT)
    kong = connect(served)
    instance = kong.start("probe", {})
    others = [connect(served) for _ in range(6)]
    for other in others:
        assert other.event(instance, "log")

    hanging: list[int] = []

    def hang() -> None:
        assert not kong.event(instance, "access", HANGS)
        hanging.append(kong.status())

    hangs = threading.Thread(target=hang)
    hangs.start()
    wait_for(lambda: kong.made)
    for other in others:  # those that the other worker does not have wait for the next worker
        assert not other.event(instance, "access")
        assert other.status() in (403, 500)
    hangs.join(DEADLINE)
    assert hanging == [500]
    assert "has taken longer than the timeout for an event, and does not answer its master" in served.said()


@pytest.mark.parametrize(("mode", "protocol"), PAIR.items())
def test_log_ends_in_good_order(serve: Serve, connect: Connect) -> None:
    served = serve(PLUGIN, **TIMEOUT)
    kong = connect(served)
    instance = kong.start("probe", {})
    assert kong.event(instance, "log", HANGS)
    assert connect(served).event(instance, "log")


@pytest.mark.parametrize(("mode", "protocol"), OTHER_PAIR.items())
def test_an_instance_that_hangs_is_refused(serve: Serve, connect: Connect) -> None:
    served = serve(PLUGIN, **TIMEOUT)
    with pytest.raises((Closed, RpcError)):
        connect(served).start("probe", {"hangs": True})
    kong = connect(served)
    assert kong.event(kong.start("probe", {}), "log")


@pytest.mark.parametrize("mode", ["loop"])
def test_a_worker_that_hangs_ends_with_its_master(serve: Serve, connect: Connect) -> None:
    served = serve(PLUGIN)
    kong = connect(served)
    instance = kong.start("probe", {})
    pids = served.pids()

    def hang() -> None:
        with pytest.raises((Closed, OSError)):
            kong.event(instance, "access", HANGS)

    hanging = threading.Thread(target=hang, daemon=True)
    hanging.start()
    wait_for(lambda: kong.made)
    served.process.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), served.said)
    hanging.join(DEADLINE)


def test_a_plugin_whose_import_does_not_end_is_reported(start: Start, tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/probe.py").write_text(NEVER_READY)
    served = start(
        PLUGINSERVER, "-d", tmp_path / "plugins", "--plugin", "probe", "--engine", "loop", "--workers", "1",
        KONG_PYTHON_START_SECONDS="1",
    )  # fmt: skip
    assert served.process.wait(DEADLINE) == 1
    assert "is not ready after 1 s (KONG_PYTHON_START_SECONDS): the import of its plugin does not end" in served.said()


def test_a_crash_in_c_shows_where_the_plugin_was(serve: Serve, connect: Connect) -> None:
    served = serve(CRASHES)
    kong = connect(served)
    assert not kong.event(kong.start("probe", {}), "access")
    assert kong.status() == 500
    said = served.wait_for_log("another one is started")
    assert "ended (SIGSEGV)" in said
    assert "Fatal Python error: Segmentation fault" in said
    assert 'plugins/probe.py", line 9 in access' in said


@pytest.mark.parametrize("mode", ["loop-processes"])
def test_a_server_that_was_stopped_as_a_whole_kills_no_worker(serve: Serve, connect: Connect) -> None:
    """As in a container that was paused."""
    served = serve(PLUGIN, **TIMEOUT)
    kong = connect(served)
    instance = kong.start("probe", {})
    pids = served.pids()
    everything = [served.process.pid, *pids]
    for pid in everything:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(4)
    for pid in everything:
        os.kill(pid, signal.SIGCONT)
    assert kong.event(instance, "log")
    time.sleep(2)
    assert served.pids() == pids
    assert "killed" not in served.said()
