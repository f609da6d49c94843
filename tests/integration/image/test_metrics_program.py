"""The program that serves the metrics of a container, beside Kong and its plugin servers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.image.container import Container
from kong_pdk.image.run_directory import RunDirectory
from local_servers import free_port
from unit.image.test_supervisord_conf import arguments, options

Start = Callable[..., Container]


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        text: str = answer.read().decode()
        return text


def start_with_metrics(start: Start, port: int, **variables: str) -> Container:
    container = start(KONG_PYTHON_METRICS_LISTEN=f"127.0.0.1:{port}", **variables)
    container.wait_for("GET / 200")
    return container


def test_metrics_are_served_and_stop_in_order(start: Start) -> None:
    port = free_port()
    container = start_with_metrics(start, port)
    container.wait_for(f"[notice] metrics: metrics are at http://127.0.0.1:{port}/metrics")
    text = metrics(port)
    for sample in (
        'kong_python_server_up{plugin="good"} 1.0',
        'kong_python_workers{plugin="good"} 1.0',
        'kong_python_server_restarts_total{plugin="good"} 0.0',
        'kong_python_events_total{outcome="error",phase="access",plugin="good"} 0.0',
    ):
        assert sample in text
    assert container.end(signal.SIGQUIT) == 0
    log = container.log
    assert log.index("stopped: kong") < log.index("stopped: good") < log.index("stopped: metrics")
    assert "[error]" not in log and "[warn]" not in log


def test_restarts_are_counted_until_the_container_ends(start: Start) -> None:
    """Also over a restart of the metrics program itself."""
    port = free_port()
    container = start_with_metrics(start, port)
    container.wait_for("metrics are at")
    container.wait_for("success: good entered RUNNING")
    os.kill(container.pid_of("good"), signal.SIGKILL)
    container.wait_for("listening on", count=2)
    container.wait_until(lambda: 'kong_python_server_restarts_total{plugin="good"} 1.0' in metrics(port), "restart")
    assert 'kong_python_workers{plugin="good"} 1.0' in metrics(port)

    container.wait_for("success: metrics entered RUNNING")
    os.kill(container.pid_of("metrics"), signal.SIGKILL)
    container.wait_for("metrics are at", count=2)
    assert 'kong_python_server_up{plugin="good"} 1.0' in metrics(port)
    assert container.end(signal.SIGQUIT) == 0

    container = start_with_metrics(start, port)
    container.wait_for("metrics are at")
    assert 'kong_python_server_restarts_total{plugin="good"} 0.0' in metrics(port)
    assert container.end(signal.SIGQUIT) == 0


@pytest.mark.usefixtures("no_plugins")
def test_metrics_without_plugins(start: Start) -> None:
    port = free_port()
    container = start_with_metrics(start, port)
    container.wait_for("metrics are at")
    assert "kong_python_build_info" in metrics(port)
    os.kill(container.pid_of("metrics"), signal.SIGKILL)
    container.wait_for("metrics are at", count=2)
    assert container.end(signal.SIGQUIT) == 0


@pytest.mark.usefixtures("no_plugins")
def test_a_port_in_use_is_logged_once_and_waited_for(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        container = start_with_metrics(start, port)
        container.wait_for(f"[error] metrics: no metrics yet, cannot listen on 127.0.0.1:{port}: Address already in")
    container.wait_for("metrics are at")
    assert container.log.count("no metrics yet") == 1
    assert container.end(signal.SIGQUIT) == 0


@pytest.mark.usefixtures("no_plugins")
def test_an_unknown_host_does_not_end_the_program(start: Start) -> None:
    container = start(KONG_PYTHON_METRICS_LISTEN="no-such-host.invalid:9542")
    container.wait_for("[error] metrics: no metrics yet, cannot listen on no-such-host.invalid:9542")
    container.wait_for("GET / 200")
    assert container.end(signal.SIGQUIT) == 0


def test_with_metrics_off_there_is_no_program_and_no_counting(start: Start, run: RunDirectory) -> None:
    container = start()
    container.wait_for("GET / 200")
    assert "spawned: 'metrics'" not in container.log
    assert list(run.metrics.iterdir()) == []
    assert container.end(signal.SIGQUIT) == 0


def test_servers_do_not_import_prometheus_client() -> None:
    code = "import sys, kong_pdk.server.command_line; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


def test_supervisord_stops_it_last(run: RunDirectory) -> None:
    groups = options(run, Path("/plugins"), ["metrics"], metrics=True).process_group_configs
    assert [group.name for group in groups] == ["metrics", "plugins", "kong"]
    assert arguments(groups[0].process_configs[0])[-1] == "kong_pdk.image.metrics_program"
