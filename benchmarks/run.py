"""Measures this project's plugin server beside kong-pdk: ``scripts/bench`` runs it.

``benchmarks/README.md`` describes the variables ``BENCH_...``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import report
from cases import CASES, Case, script
from kong_pdk.mode import GEVENT, LOOP, THREADS
from servers import ASYNCIO, FLOOR, GO, OURS, PEER, PEER_OPTIONS, BenchError, Kind, Programs, Server, running

Number = TypeVar("Number", int, float)

Figures: TypeAlias = dict[str, float | None]
"""What was measured, by its name in the JSON; None where a case does not have it."""

Servers: TypeAlias = dict[Kind, Server | BenchError]
"""The servers that run, or why they do not."""


@dataclass
class Row:
    """The runs of a server with a case, and so many requests at once."""

    kind: Kind
    case: str
    concurrency: int
    runs: list[Figures] = field(default_factory=list)
    failure: str = ""

    def as_json(self) -> dict[str, Any]:
        """Give the medians of the runs, or the failure."""
        row: dict[str, Any] = {
            "server": self.kind.server, "protocol": self.kind.protocol, "engine": self.kind.engine,
            "workers": self.kind.workers, "case": self.case, "concurrency": self.concurrency,
        }  # fmt: skip
        if self.failure:
            return {**row, "failure": self.failure}
        return row | {
            name: statistics.median(values) if None not in (values := [run[name] for run in self.runs]) else None
            for name in self.runs[0]
        }


def kinds(case: Case, workers: int) -> Iterator[Kind]:
    """List the servers that a case is measured with, for a number of workers."""
    if workers == 1 and case.name == "0r0w":
        yield Kind(FLOOR, "protobuf")
    for engine in ("default", LOOP, THREADS, GEVENT, ASYNCIO):
        for protocol in ("protobuf", "msgpack"):
            yield Kind(OURS, protocol, engine, workers)
    if workers == 1:
        for engine in PEER_OPTIONS:
            yield Kind(PEER, "msgpack", engine)
        if case.in_go:
            yield Kind(GO, "protobuf")


class Bench:
    """Measures cases with the programs of the benchmark."""

    def __init__(self, programs: Programs, servers: Sequence[str], seconds: float, rounds: int, paced: bool) -> None:
        """:param servers: the products to measure.

        :param seconds: how long a run takes; rounds: how often each is repeated.
        :param paced: the load generator computes as long as Kong does, in place of sending at once.
        """
        self._programs = programs
        self._servers = servers
        self._seconds = seconds
        self._rounds = rounds
        self._paced = paced

    def measure(self, case: Case) -> list[Row]:
        """Measure all servers with a case, in turns: what else the machine does meets all of them."""
        rows = [
            Row(kind, case.name, concurrency)
            for workers in case.workers
            for kind in kinds(case, workers)
            if kind.server in self._servers
            for concurrency in case.concurrency
        ]
        with ExitStack() as stack:
            servers: Servers = {}
            for number in range(self._rounds):
                for row in rows:
                    self._add_run(row, case, servers, stack)
                report.progress(case.name, number + 1, self._rounds)
        return rows

    def _add_run(self, row: Row, case: Case, servers: Servers, stack: ExitStack) -> None:
        """Measure once more, unless that failed before: with a server of its own, or with the one that runs already."""
        if row.failure:
            return
        try:
            if case.most or not row.concurrency:
                with running(row.kind, case.plugin, self._programs) as server:
                    row.runs.append(self._load(server, case, row) if row.concurrency else self._rest(server, case))
            else:
                row.runs.append(self._load(self._server(row.kind, case, servers, stack), case, row))
        except BenchError as error:
            row.failure = str(error)

    def _server(self, kind: Kind, case: Case, servers: Servers, stack: ExitStack) -> Server:
        """Give the running server of a kind; start it, also where it has ended.

        :raises BenchError: it does not start, or did not.
        """
        server = servers.get(kind)
        if server is None or (isinstance(server, Server) and server.has_ended):
            try:
                server = stack.enter_context(running(kind, case.plugin, self._programs))
            except BenchError as error:
                server = error
            servers[kind] = server
        if isinstance(server, BenchError):
            raise server
        return server

    def _load(self, server: Server, case: Case, row: Row) -> Figures:
        """Run the load generator once.

        :raises BenchError: an event failed or had no answer.
        """
        place = server.path.parent / "script"
        place.write_text(script(case, server.kind.protocol, server.start_instance(), self._paced))
        server.forget_peak()
        command = [
            str(self._programs.load), str(server.path), str(place), str(row.concurrency), str(self._seconds),
            str(case.most),
        ]  # fmt: skip
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as load:
            assert load.stdout
            assert load.stdin
            if load.stdout.readline() == "ready\n":
                before = server.cpu_seconds()
                load.stdin.write("\n")
                load.stdin.flush()
                result = load.stdout.readline()
                used = server.cpu_seconds() - before
            _, errors = load.communicate()
        if load.returncode != 0:
            raise BenchError(f"{errors.strip()}\n{server.log}")
        return _figures(json.loads(result), used, server)

    def _rest(self, server: Server, case: Case) -> Figures:
        """Measure a server that holds instances and has nothing to do."""
        for number in range(case.instances):
            server.start_instance(number)
        time.sleep(0.5)  # what a start leaves to do is done
        server.forget_peak()
        cpu, switches = server.cpu_seconds(), server.switches()
        time.sleep(self._seconds)
        return {
            **dict.fromkeys(("cpu_us_per_event", "events_per_s", "p50_ms", "p99_ms")),
            "wakeups_per_s": (server.switches() - switches) / self._seconds,
            "cpu_ms_per_s": (server.cpu_seconds() - cpu) / self._seconds * 1e3,
            "rss_mib": server.peak_mib(),
        }


def _figures(result: dict[str, float], used: float, server: Server) -> Figures:
    events = result["events"]
    return {
        "cpu_us_per_event": used / events * 1e6,
        "events_per_s": events / result["seconds"],
        "p50_ms": result["p50_ms"],
        "p99_ms": result["p99_ms"],
        "rss_mib": server.peak_mib(),
        "generator_cpu_share": result["cpu_seconds"] / result["seconds"],
    }


def _number(name: str, default: Number) -> Number:
    """Read a variable of the default's type, an int or a float."""
    text = os.environ.get(name, "").strip()
    try:
        number = type(default)(text or default)
    except ValueError:
        number = type(default)(0)
    if number <= 0:
        what = "a whole number" if isinstance(default, int) else "a number"
        sys.exit(f"{name}={text} is not {what} above 0; {name}={default:g} is the default")
    return number


def _chosen(name: str, known: Sequence[str], default: Sequence[str] | None = None) -> list[str]:
    """Read a variable that lists names with commas; the default where it is empty, or all names."""
    chosen = [word.strip() for word in os.environ.get(name, "").split(",") if word.strip()]
    unknown = [word for word in chosen if word not in known]
    if unknown:
        sys.exit(f"{name}: {unknown[0]} is not known; choose from {', '.join(known)}")
    return [each for each in known if each in (chosen or default or known)]


def main() -> int:
    """Measure the chosen cases; print a table for each, and write the JSON and the picture.

    :return: 1 where a server of this project failed.
    """
    pace = os.environ.get("BENCH_PACE", "").strip() or "kong"
    if pace not in {"kong", "none"}:
        sys.exit(f"BENCH_PACE={pace}: choose kong (the default) or none")
    bench = Bench(
        Programs(*map(Path, sys.argv[1:5])), _chosen("BENCH_SERVERS", (FLOOR, OURS, PEER, GO), (FLOOR, OURS, PEER)),
        _number("BENCH_SECONDS", 0.5), _number("BENCH_ROUNDS", 5), pace == "kong",
    )  # fmt: skip
    names = _chosen("BENCH_CASES", [case.name for case in CASES])
    rows: list[Row] = []
    for case in (case for case in CASES if case.name in names):
        measured = bench.measure(case)
        if measured:  # not every server has every case
            print(report.table([row.as_json() for row in measured]), flush=True)
        rows += measured
    found = [row.as_json() for row in rows]
    if os.environ.get("BENCH_JSON"):
        Path(os.environ["BENCH_JSON"]).write_text(json.dumps({"rows": found}, indent=1) + "\n")
    if os.environ.get("BENCH_SVG") and not report.picture(found, Path(os.environ["BENCH_SVG"])):
        print(f"BENCH_SVG: no picture without the cases {', '.join(report.DRAWN)}", file=sys.stderr)
    return any(row.failure and row.kind.server == OURS for row in rows)


if __name__ == "__main__":
    sys.exit(main())
