"""The container's metrics, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from container.log_lines import CALL_OF_KILLED_SERVER, KILLED_SERVER, raised_by
from container.product import PY_HELLO, TEST_PLUGINS, Kong, Launcher, declarative
from prometheus_client.parser import text_string_to_metric_families

PORT = 9542


def sample(container: Kong, name: str, **labels: str) -> float | None:
    """Give the current value of a sample; its name is given without the prefix."""
    text = container.request("/metrics", port=PORT).body.decode()
    for family in text_string_to_metric_families(text):
        for found in family.samples:
            if found.name == f"kong_python_{name}" and found.labels == labels:
                return found.value
    return None


@pytest.fixture
def measured(kong: Launcher) -> Iterator[Kong]:
    """A container with metrics, py-hello and a plugin that raises on request."""
    container = kong.start(
        plugins=kong.folder({"py-hello.py": PY_HELLO, "raises.py": TEST_PLUGINS / "raises.py"}),
        config=declarative("py-hello", "raises"),
        env={"KONG_PYTHON_METRICS_LISTEN": f"0.0.0.0:{PORT}"},
        ports=(8000, PORT),
        expected=[raised_by("raises")],
    )
    container.wait_until_serving()
    container.wait_for(lambda: sample(container, "server_up", plugin="py-hello") == 1, "metrics")
    yield container


def test_requests_are_counted(measured: Kong) -> None:
    """Each run of a handler is counted by plugin, phase and outcome, with its time and its PDK calls."""
    hello, raises = ({"plugin": plugin, "phase": "access"} for plugin in ("py-hello", "raises"))
    for _ in range(5):
        assert measured.request().status == 200
    for _ in range(3):
        assert measured.request(headers={"x-raise": "an error"}).status == 500

    def counted() -> bool:
        # py-hello has more than five: the fixture sent requests until it served.
        errors = sample(measured, "events_total", **raises, outcome="error")
        return errors == 3 and (sample(measured, "events_total", **hello, outcome="ok") or 0) > 5

    measured.wait_for(counted, "three errors and more than five events of py-hello")
    spent = sample(measured, "handler_duration_seconds_sum", **hello)
    waited = sample(measured, "kong_wait_seconds_total", **hello)
    assert spent is not None
    assert waited is not None
    assert 0 < waited < spent
    assert sample(measured, "pdk_calls_total", **raises, function="kong.request.get_header") == sample(
        measured, "handler_duration_seconds_count", **raises
    )
    assert sample(measured, "events_total", **hello, outcome="error") == 0


def test_servers_and_their_memory_are_shown(measured: Kong) -> None:
    """Each plugin's server is up, with a worker, and the memory of its processes is shown."""
    for plugin in ("py-hello", "raises"):
        assert sample(measured, "server_up", plugin=plugin) == 1
        assert sample(measured, "workers", plugin=plugin) == 1
        assert sample(measured, "server_restarts_total", plugin=plugin) == 0
        memory = sample(measured, "process_resident_memory_bytes", plugin=plugin, process="0")
        assert memory is not None
        assert memory > 2**20


def test_a_killed_server_is_counted_and_its_counters_go_on(measured: Kong) -> None:
    """A killed plugin server is counted as a restart, and its earlier counts are kept."""
    hello = {"plugin": "py-hello", "phase": "access"}
    measured.wait_for(lambda: sample(measured, "events_total", **hello, outcome="ok"), "the first request")
    before = sample(measured, "events_total", **hello, outcome="ok") or 0
    measured.expect(KILLED_SERVER, CALL_OF_KILLED_SERVER)
    measured.kill("KILL", *measured.pids_of_server("py-hello"))
    measured.wait_for(lambda: sample(measured, "server_restarts_total", plugin="py-hello") == 1, "a restart")
    measured.wait_for(lambda: sample(measured, "server_up", plugin="py-hello") == 1, "an answer")
    measured.wait_until_serving()

    measured.wait_for(lambda: (sample(measured, "events_total", **hello, outcome="ok") or 0) > before, "more events")
    assert sample(measured, "workers", plugin="py-hello") == 1


def test_it_stops_in_good_order(measured: Kong) -> None:
    """A container that serves metrics stops with status 0."""
    assert measured.stop() == 0


def test_without_the_setting_no_port_is_open(kong: Launcher) -> None:
    """Metrics are off by default: no port is open."""
    container = kong.start(plugins=kong.folder({"py-hello.py": PY_HELLO}), config=declarative("py-hello"))
    container.wait_until_serving()
    script = "import socket; print(socket.socket().connect_ex(('127.0.0.1', 9542)) != 0)"
    assert container.exec("python3", "-c", script).stdout == "True\n"
    assert "metrics" not in container.exec("supervisorctl", "status").stdout
