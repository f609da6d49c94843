"""Counters, also after the end of the process that counts."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from kong_pdk.metrics import recorder
from kong_pdk.metrics.counter_file import open_counters, path_of
from kong_pdk.metrics.counter_layout import ABORTED, ERROR, EXIT, OK
from kong_pdk.metrics.recorder import Recorder, record_server, record_worker, recorder_of, write_all
from unit.metrics.conftest import Value

HEADER = "kong.request.get_header"


def worker(directory: Path, number: int = 0, server: int = 1) -> Recorder:
    return Recorder(directory, "probe", ("access", "log"), number, server)


@pytest.mark.parametrize(("outcome", "name"), [(OK, "ok"), (ERROR, "error"), (EXIT, "exit"), (ABORTED, "aborted")])
def test_an_event_is_counted_by_how_it_ended(directory: Path, value: Value, outcome: int, name: str) -> None:
    counters = worker(directory)
    counters.add(("access", outcome, 0.004, 0.0, ()))
    counters.write()
    for other in ("ok", "error", "exit", "aborted"):
        assert value("events_total", plugin="probe", phase="access", outcome=other) == float(other == name)


def test_the_time_in_a_handler_is_a_histogram(directory: Path, value: Value) -> None:
    counters = worker(directory)
    for seconds in (0.0001, 0.005, 0.006, 20.0):
        counters.add(("access", OK, seconds, 0.0, ()))
    counters.write()
    where = {"plugin": "probe", "phase": "access"}
    assert value("handler_duration_seconds_count", **where) == 4
    assert value("handler_duration_seconds_sum", **where) == pytest.approx(20.0111)
    buckets = {le: value("handler_duration_seconds_bucket", **where, le=le) for le in ("0.00025", "0.005", "0.01")}
    assert buckets == {"0.00025": 1, "0.005": 2, "0.01": 3}  # a bound belongs to its bucket
    assert value("handler_duration_seconds_bucket", **where, le="10.0") == 3
    assert value("handler_duration_seconds_bucket", **where, le="+Inf") == 4


def test_calls_are_counted_by_function_and_their_time_is_added_up(directory: Path, value: Value) -> None:
    counters = worker(directory)
    counters.add(("access", OK, 1.0, 0.625, [HEADER, HEADER, "kong.response.set_header"]))
    counters.write()
    where = {"plugin": "probe", "phase": "access"}
    assert value("pdk_calls_total", **where, function=HEADER) == 2
    assert value("pdk_calls_total", **where, function="kong.response.set_header") == 1
    assert value("kong_wait_seconds_total", **where) == 0.625


def test_functions_that_nobody_knows_are_one(directory: Path, value: Value) -> None:
    counters = worker(directory)
    counters.add(("access", OK, 1.0, 0.0, [f"kong.made_up.name_{number}" for number in range(50)]))
    counters.write()
    assert value("pdk_calls_total", plugin="probe", phase="access", function="other") == 50


def test_a_phase_that_nobody_knows_is_ignored(directory: Path, value: Value) -> None:
    counters = worker(directory)
    counters.add(("dance", OK, 1.0, 0.0, ()))
    counters.add(("access", OK, 1.0, 0.0, ()))
    counters.write()
    assert value("events_total", plugin="probe", phase="access", outcome="ok") == 1


def test_a_phase_with_a_handler_has_its_counters_from_the_start(directory: Path, value: Value) -> None:
    worker(directory)
    assert value("events_total", plugin="probe", phase="log", outcome="error") == 0
    assert value("events_total", plugin="probe", phase="rewrite", outcome="ok") is None


def test_many_threads_lose_nothing(directory: Path, value: Value) -> None:
    counters = worker(directory)

    def run() -> None:
        for _ in range(5000):
            counters.add(("access", OK, 0.001, 0.0, [HEADER]))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    counters.write()
    assert value("events_total", plugin="probe", phase="access", outcome="ok") == 20000
    assert value("pdk_calls_total", plugin="probe", phase="access", function=HEADER) == 20000


def test_a_successor_goes_on_with_the_counters(directory: Path, value: Value) -> None:
    for _ in range(2):
        counters = worker(directory)
        counters.add(("access", OK, 0.001, 0.5, [HEADER]))
        counters.write()
    assert value("events_total", plugin="probe", phase="access", outcome="ok") == 2
    assert value("handler_duration_seconds_count", plugin="probe", phase="access") == 2
    assert value("kong_wait_seconds_total", plugin="probe", phase="access") == 1


def test_workers_are_added_up(directory: Path, value: Value) -> None:
    for number in range(3):
        counters = worker(directory, number)
        counters.add(("access", OK, 0.001, 0.0, ()))
        counters.write()
    assert value("events_total", plugin="probe", phase="access", outcome="ok") == 3
    assert value("workers", plugin="probe") == 3


def test_a_worker_that_comes_again_to_the_same_server_is_a_restart(directory: Path, value: Value) -> None:
    for server in (10, 10, 10, 11):
        worker(directory, server=server)
    worker(directory, number=1, server=11)
    assert value("worker_restarts_total", plugin="probe") == 2


def test_a_server_that_starts_again_is_a_restart(directory: Path, value: Value) -> None:
    record_server(directory, ["probe"])
    assert value("server_restarts_total", plugin="probe") == 0
    record_server(directory, ["probe"])
    assert value("server_restarts_total", plugin="probe") == 1


def test_only_processes_that_live_are_workers(directory: Path, value: Value) -> None:
    code = (
        "import sys; from pathlib import Path; from kong_pdk.metrics.recorder import Recorder\n"
        "Recorder(Path(sys.argv[1]), 'probe', ('access',), 0, 1)"
    )
    subprocess.run([sys.executable, "-c", code, str(directory)], check=True, timeout=60)
    assert value("workers", plugin="probe") == 0
    assert value("process_resident_memory_bytes", plugin="probe", process="0") is None
    worker(directory, number=1)
    assert value("workers", plugin="probe") == 1


def test_the_memory_of_each_process_is_shown(directory: Path, value: Value) -> None:
    record_server(directory, ["probe"])
    worker(directory)
    for process in ("server", "0"):
        resident = value("process_resident_memory_bytes", plugin="probe", process=process)
        proportional = value("process_proportional_memory_bytes", plugin="probe", process=process)
        assert resident and resident > 2**20
        assert proportional is None or proportional > 2**20


def test_what_is_no_file_of_counters_is_made_anew(directory: Path, value: Value) -> None:
    path_of(directory, "probe", "0").write_bytes(b"something else")
    counters = worker(directory)
    counters.add(("access", OK, 0.001, 0.0, ()))
    counters.write()
    assert value("events_total", plugin="probe", phase="access", outcome="ok") == 1


def test_counters_of_another_version_are_made_anew(directory: Path, value: Value) -> None:
    counters = open_counters(path_of(directory, "probe", "0"))
    counters[0] += 1
    counters[20] = 99
    worker(directory)
    assert value("events_total", plugin="probe", phase="access", outcome="ok") == 0


def test_a_directory_that_cannot_be_written_is_a_line_and_no_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    absent = tmp_path / "absent"
    with caplog.at_level(logging.WARNING):
        record_server(absent, ["probe"])
        record_worker(absent, {"probe": ("access",)}, 0, os.getpid())
    assert recorder_of("probe") is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert f"probe: no metrics: cannot write to {absent}: No such file or directory" in caplog.text


def test_a_full_disk_leaves_nothing_half_made(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: object) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        worker(directory)
    assert list(directory.iterdir()) == []


def test_events_are_counted_without_another_one(directory: Path, value: Value, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_PAUSE", 0.01)
    record_worker(directory, {"probe": ("access",)}, 0, os.getpid())
    found = recorder_of("probe")
    assert found is not None
    found.add(("access", OK, 0.001, 0.0, ()))
    counted = threading.Event()
    for _ in range(2000):
        if value("events_total", plugin="probe", phase="access", outcome="ok") == 1:
            break
        counted.wait(0.01)
    assert value("events_total", plugin="probe", phase="access", outcome="ok") == 1


def test_the_end_of_a_process_counts_the_rest(directory: Path, value: Value, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_PAUSE", 3600)
    record_worker(directory, {"probe": ("access",)}, 0, os.getpid())
    found = recorder_of("probe")
    assert found is not None
    found.add(("access", OK, 0.001, 0.0, ()))
    write_all()
    assert value("events_total", plugin="probe", phase="access", outcome="ok") == 1
