"""Threads or greenlets, one process or several: the counters are the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from fake_kong import MsgpackKong
from server_process import PAIR, Connect, Serve
from unit.metrics.conftest import Value
from waiting import wait_for

PLUGIN = """
class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        host, err = kong.request.get_header("host")
        kong.response.set_header("x-hello", host)

    def rewrite(self, kong):
        raise ValueError("broken on purpose")
"""
ACCESS = {"plugin": "probe", "phase": "access"}


def test_everything_is_counted_when_the_server_has_stopped(
    serve: Serve, connect: Connect, directory: Path, value: Value
) -> None:
    served = serve(PLUGIN, "--metrics-directory", str(directory))
    assert value("workers", plugin="probe") == served.workers
    for _ in range(6):
        kong = connect(served)
        instance = kong.start("probe", {})
        assert kong.event(instance, "access", {"kong.request.get_header": "example.test"})
        assert not kong.event(instance, "rewrite", {})
        kong.close()
    assert served.stop() == 0
    assert value("events_total", **ACCESS, outcome="ok") == 6
    assert value("events_total", plugin="probe", phase="rewrite", outcome="error") == 6
    assert value("pdk_calls_total", **ACCESS, function="kong.response.set_header") == 6
    assert value("handler_duration_seconds_count", **ACCESS) == 6
    assert value("workers", plugin="probe") == 0


def test_everything_is_counted_while_it_runs(serve: Serve, directory: Path, value: Value) -> None:
    served = serve(PLUGIN, "--metrics-directory", str(directory))
    kong = MsgpackKong(served.socket)
    assert kong.event(kong.start("probe", {}), "access", {"kong.request.get_header": "example.test"})
    wait_for(lambda: value("events_total", **ACCESS, outcome="ok") == 1, served.said)
    kong.close()
    assert served.stop() == 0


def test_a_worker_that_is_killed_is_counted_and_its_counters_go_on(serve: Serve, directory: Path, value: Value) -> None:
    served = serve(PLUGIN, "--metrics-directory", str(directory))
    kong = MsgpackKong(served.socket)
    assert kong.event(kong.start("probe", {}), "access", {"kong.request.get_header": "example.test"})
    wait_for(lambda: value("events_total", **ACCESS, outcome="ok") == 1, served.said)
    os.kill(served.pid_of_a_worker(), signal.SIGKILL)
    wait_for(lambda: value("worker_restarts_total", plugin="probe") == 1, served.said)
    wait_for(lambda: value("workers", plugin="probe") == served.workers, served.said)
    assert value("server_restarts_total", plugin="probe") == 0
    again = MsgpackKong(served.socket)
    assert again.event(again.start("probe", {}), "access", {"kong.request.get_header": "example.test"})
    again.close()
    assert served.stop() == 0
    assert value("events_total", **ACCESS, outcome="ok") == 2
    kong.close()


@pytest.mark.parametrize("mode", PAIR)
def test_a_server_that_cannot_count_still_serves(serve: Serve, tmp_path: Path) -> None:
    served = serve(PLUGIN, "--metrics-directory", str(tmp_path / "absent"))
    kong = MsgpackKong(served.socket)
    assert kong.event(kong.start("probe", {}), "access", {"kong.request.get_header": "example.test"})
    kong.close()
    assert served.stop() == 0
    assert "[warn] probe: no metrics: cannot write to" in served.said()
