"""The benchmark measures what it says, and counts no event that went wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import PLUGINSERVER

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
NAMES = {
    "server", "protocol", "engine", "workers", "case", "concurrency", "cpu_us_per_event", "events_per_s", "p50_ms",
    "p99_ms", "rss_mib",
}  # fmt: skip

Bench = Callable[..., tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]]

pytestmark = pytest.mark.skipif(COMPILER is None, reason="the load generator is compiled, and there is no C compiler")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The compiled programs, and this project's server in the place of kong-pdk's: its options are the same."""
    place = tmp_path_factory.mktemp("programs")
    for name in ("load", "floor"):
        command = [str(COMPILER), "-Wall", "-Wextra", "-Werror", "-o", str(place / name), str(BENCHMARKS / f"{name}.c")]
        subprocess.run(command, check=True, timeout=60)
    # A stand-in for go-pdk: it listens where a program of go-pdk does, which is named after its plugin.
    go = place / "go"
    options = '-p "$2" --socket-name "$(basename "$0").socket" -d "$2/plugins"'
    go.write_text(f"#!/bin/sh\nexec {PLUGINSERVER} {options}\n")
    go.chmod(0o755)
    return [str(place / "load"), str(place / "floor"), PLUGINSERVER, str(go)]


@pytest.fixture
def bench(tmp_path: Path, programs: list[str]) -> Bench:
    """Run the benchmark for a moment; gives the rows of its JSON, too."""

    def run(folder: Path = BENCHMARKS, **variables: str) -> tuple[subprocess.CompletedProcess[str], list[Any]]:
        file = tmp_path / "rows.json"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BENCH_", "KONG_"))}
        short = {"BENCH_ROUNDS": "1", "BENCH_SECONDS": "0.05", "BENCH_JSON": str(file)}
        command = [sys.executable, str(folder / "run.py"), *programs]
        done = subprocess.run(
            command, env={**kept, **short, **variables}, capture_output=True, text=True, timeout=120, check=False
        )
        return done, json.loads(file.read_text())["rows"] if file.exists() else []

    return run


@pytest.fixture
def with_plugin(tmp_path: Path) -> Callable[[str, str], Path]:
    """Copy the benchmark, with another handler in a case."""

    def copy(case: str, handler: str) -> Path:
        folder = tmp_path / "benchmarks"
        shutil.copytree(BENCHMARKS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        text = f"class Plugin:\n    def __init__(self, config): pass\n    def access(self, kong): {handler}\n"
        (folder / "plugins" / f"{case}.py").write_text(text)
        (tmp_path / "docker").symlink_to(BENCHMARKS.parent / "docker")  # has the interface file
        return folder

    return copy


@pytest.mark.parametrize("case", ["body64k", "exit"])
def test_every_server_is_measured(bench: Bench, case: str) -> None:
    done, rows = bench(BENCH_CASES=case, BENCH_SERVERS="kong-python", BENCH_PACE="none")
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = {(row["engine"], row["protocol"], row["concurrency"]) for row in rows}
    engines, protocols = ("default", "loop", "threads", "gevent", "asyncio"), ("protobuf", "msgpack")
    assert kinds == {(engine, protocol, most) for engine in engines for protocol in protocols for most in (1, 16, 64)}
    for row in rows:
        assert row.keys() >= NAMES
        assert row["cpu_us_per_event"] > 0
        assert row["events_per_s"] > 0
        assert row["p50_ms"] <= row["p99_ms"]
        assert row["rss_mib"] > 10
    assert done.stdout.count("\nkong-python  ") == len(rows)


def test_the_peer_and_the_floor_are_measured_and_ratios_are_to_the_peer(bench: Bench) -> None:
    done, rows = bench(BENCH_CASES="0r0w", BENCH_SERVERS="kong-pdk,floor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {(row["server"], row["engine"]) for row in rows} == {
        ("floor", "default"), ("kong-pdk", "default"), ("kong-pdk", "gevent"), ("kong-pdk", "multiprocessing"),
    }  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("kong-pdk  msgpack   default")]
    assert len(lines) == 3
    assert all(line.count("(1.00)") == 2 for line in lines)


def test_go_is_measured_where_it_is_asked_for(bench: Bench) -> None:
    done, rows = bench(BENCH_CASES="1r1w,idle", BENCH_SERVERS="go-pdk")
    assert done.returncode == 0, done.stdout + done.stderr
    found = [(row["server"], row["protocol"], row["engine"], row["case"], row["concurrency"]) for row in rows]
    assert found == [("go-pdk", "protobuf", "default", "1r1w", most) for most in (1, 16, 64)]
    assert all(row["cpu_us_per_event"] > 0 for row in rows)


def test_servers_at_rest(bench: Bench) -> None:
    done, rows = bench(BENCH_CASES="idle", BENCH_SERVERS="kong-python")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(rows) == 10
    for row in rows:
        assert row["wakeups_per_s"] >= 0
        assert row["events_per_s"] is None
        assert row["rss_mib"] > 10


@pytest.mark.parametrize(
    ("handler", "why"),
    [
        ("1 / 0", "has no reply to kong.response.error"),
        ("kong.request.get_path()", "has no reply to kong.request.get_path"),
    ],
)
def test_an_event_that_goes_wrong_is_a_failure(
    bench: Bench, with_plugin: Callable[[str, str], Path], handler: str, why: str
) -> None:
    done, rows = bench(with_plugin("1r1w", handler), BENCH_CASES="1r1w", BENCH_SERVERS="kong-python")
    assert done.returncode == 1
    assert rows
    assert all(why in row["failure"] for row in rows)
    assert why in done.stdout


def test_a_server_that_does_not_start_is_a_failure(bench: Bench, with_plugin: Callable[[str, str], Path]) -> None:
    done, rows = bench(with_plugin("1r1w", "def"), BENCH_CASES="1r1w", BENCH_SERVERS="kong-python")
    assert done.returncode == 1
    assert all("does not start" in row["failure"] and "1r1w.py:3" in row["failure"] for row in rows)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("BENCH_CASES", "1r1w,2r2w", "BENCH_CASES: 2r2w is not known; choose from 0r0w, 1r1w, "),
        ("BENCH_SERVERS", "js-pdk", "BENCH_SERVERS: js-pdk is not known; choose from floor, kong-python, kong-pdk, go"),
        ("BENCH_SECONDS", "0", "BENCH_SECONDS=0 is not a number above 0; BENCH_SECONDS=0.5 is the default"),
        ("BENCH_ROUNDS", "many", "BENCH_ROUNDS=many is not a whole number above 0; BENCH_ROUNDS=5 is the default"),
        ("BENCH_ROUNDS", "0.5", "BENCH_ROUNDS=0.5 is not a whole number above 0; BENCH_ROUNDS=5 is the default"),
        ("BENCH_PACE", "slow", "BENCH_PACE=slow: choose kong (the default) or none"),
    ],
)
def test_a_wrong_variable_is_named(bench: Bench, name: str, value: str, message: str) -> None:
    done, rows = bench(**{name: value})
    assert done.returncode == 1
    assert message in done.stderr
    assert not rows
