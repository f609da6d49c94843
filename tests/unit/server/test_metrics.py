"""What the plugin server counts, over both protocols."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_kong import REFUSED, FakeKong
from kong_pdk.metrics import recorder
from kong_pdk.metrics.counter_layout import OUTCOMES
from kong_pdk.metrics.recorder import record_worker, write_all
from unit.metrics.conftest import Value, counting_ends, directory, value
from unit.server.conftest import Serve
from waiting import DEADLINE, wait_for

__all__ = ["counting_ends", "directory", "value"]

Connect = Callable[[Path], FakeKong]
Outcomes = Callable[[object], dict[str, float | None]]


class Probe:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        wish, _ = kong.request.get_header("x-wish")
        if wish == "raise":
            raise ValueError(wish)
        if wish == "exit":
            kong.response.exit(403)
        if wish in ("late", "late and swallow"):
            try:
                while True:
                    time.sleep(0.01)
            except BaseException:
                if wish == "late":
                    raise
            return
        if wish == "swallow":
            with contextlib.suppress(BaseException):
                kong.response.exit(403)
        kong.response.set_header("x-wish", wish)

    def log(self, kong):
        pass


@pytest.fixture
def outcomes(serve: Serve, connect: Connect, directory: Path, value: Value) -> Outcomes:
    """Give a function that runs an access handler and says how often it ended in each way so far."""
    record_worker(directory, {"probe": ("access", "log")}, 0, 1)
    path = serve(Probe, timeout=0.2)

    def run(wish: object) -> dict[str, float | None]:
        kong = connect(path)
        kong.event(kong.start("probe"), "access", {"kong.request.get_header": wish})
        # In MsgPack:1 Kong says nothing of a call that it refuses; the end of its connections does.
        kong.close()
        serve.stop(path)
        return wait_for(counted)  # a handler that is late is counted when it ends

    def counted() -> dict[str, float | None]:
        write_all()
        counts = {name: value("events_total", plugin="probe", phase="access", outcome=name) for name in OUTCOMES}
        return {name: count for name, count in counts.items() if count}

    return run


@pytest.mark.parametrize(
    ("wish", "outcome"),
    [
        ("nothing", "ok"),
        ("raise", "error"),
        ("late", "error"),
        ("late and swallow", "error"),
        ("exit", "exit"),
        ("swallow", "exit"),
        (lambda name: REFUSED, "aborted"),
    ],
)
def test_events_are_counted_by_how_they_ended(outcomes: Outcomes, wish: object, outcome: str) -> None:
    assert outcomes(wish) == {outcome: 1}


def test_calls_and_times_are_counted(serve: Serve, connect: Connect, directory: Path, value: Value) -> None:
    record_worker(directory, {"probe": ("access", "log")}, 0, 1)
    path = serve(Probe)
    kong = connect(path)
    instance = kong.start("probe")
    for _ in range(3):
        assert kong.event(instance, "access", {"kong.request.get_header": "nothing"})
    assert kong.event(instance, "log")
    kong.close()
    serve.stop(path)
    write_all()
    access = {"plugin": "probe", "phase": "access"}
    for function in ("kong.request.get_header", "kong.response.set_header"):
        assert value("pdk_calls_total", **access, function=function) == 3
    in_handler, waiting = value("handler_duration_seconds_sum", **access), value("kong_wait_seconds_total", **access)
    assert in_handler is not None and waiting is not None
    assert 0 < waiting < in_handler < DEADLINE
    assert value("handler_duration_seconds_count", plugin="probe", phase="log") == 1
    assert value("kong_wait_seconds_total", plugin="probe", phase="log") == 0


def test_nothing_is_counted_where_it_is_off(serve: Serve, connect: Connect) -> None:
    kong = connect(serve(Probe))
    assert kong.event(kong.start("probe"), "access", {"kong.request.get_header": "nothing"})
    assert recorder._recorders == {}
