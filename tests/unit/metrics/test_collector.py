"""The metrics of a container whose servers count nothing or do not run."""

from __future__ import annotations

from pathlib import Path

from kong_pdk import __version__
from kong_pdk.metrics.collector import PluginCollector
from kong_pdk.metrics.counter_file import path_of
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from unit.metrics.conftest import Value


def test_the_version_is_there_without_any_plugin(directory: Path) -> None:
    families = {family.name: family for family in PluginCollector(directory, dict).collect()}
    assert families["kong_python_build_info"].samples[0].labels["version"] == __version__
    assert families["kong_python_events"].samples == []


def test_a_server_that_does_not_answer_is_not_up(value: Value) -> None:
    answering = {"good": True, "silent": False}
    assert value("server_up", answering, plugin="good") == 1
    assert value("server_up", answering, plugin="silent") == 0


def test_a_server_that_never_counted_has_no_workers_and_no_restarts(value: Value) -> None:
    for name in ("workers", "worker_restarts_total", "server_restarts_total"):
        assert value(name, {"silent": False}, plugin="silent") == 0


def test_files_of_others_do_not_matter(directory: Path, value: Value) -> None:
    path_of(directory, "probe", "0").write_bytes(b"")
    (directory / "notes.txt").write_text("nothing to count")
    (directory / ".probe.0.counters.17").write_bytes(b"half")
    assert value("workers", {"good": True}, plugin="good") == 0


def test_it_can_be_openmetrics_too(directory: Path) -> None:
    text = generate_openmetrics(PluginCollector(directory, lambda: {"good": True})).decode()
    assert "kong_python_server_up" in {family.name for family in parse_openmetrics(text)}


def test_a_directory_that_is_gone_is_no_error(tmp_path: Path) -> None:
    assert list(PluginCollector(tmp_path / "absent", dict).collect())
