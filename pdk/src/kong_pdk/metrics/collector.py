"""Makes Prometheus metrics from the counter files of a container's plugin servers."""

from __future__ import annotations

import itertools
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from kong_pdk import __version__
from kong_pdk.metrics import counter_layout
from kong_pdk.metrics.counter_file import SERVER, read_counters
from kong_pdk.metrics.process_stats import memory, started
from kong_pdk.protocol import PHASES

_BOUNDS = [*map(floatToGoString, counter_layout.BOUNDS), "+Inf"]


class PluginCollector(Collector):
    """Reads the counter files and the state of processes and servers at each scrape."""

    def __init__(self, directory: Path, answering: Callable[[], Mapping[str, bool]]) -> None:
        """:param directory: the directory of the counter files.

        :param answering: gives for each plugin whether its server answers.
        """
        self._directory = directory
        self._answering = answering

    def collect(self) -> Iterator[Metric]:
        """Give the current metrics."""
        labels = {"version": __version__, "python": platform.python_version()}
        build = GaugeMetricFamily("kong_python_build_info", "The version of kong-python", labels=list(labels))
        build.add_metric(list(labels.values()), 1)
        yield build
        up = GaugeMetricFamily("kong_python_server_up", "Whether a plugin's server answers", labels=["plugin"])
        answering = self._answering()
        for plugin, answers in answering.items():
            up.add_metric([plugin], float(answers))
        yield up
        files = list(read_counters(self._directory))
        yield from _of_processes(files, answering)
        by_plugin: dict[str, list[Sequence[float]]] = {}
        for plugin, process, counters in files:
            if process != SERVER:
                by_plugin.setdefault(plugin, []).append(counters)
        yield from _of_events({plugin: _sums(workers) for plugin, workers in by_plugin.items()})


_File = tuple[str, str, Sequence[float]]


def _of_processes(files: Iterable[_File], plugins: Iterable[str]) -> Iterator[Metric]:
    workers: Counter[str] = Counter(dict.fromkeys(plugins, 0))
    worker_restarts: Counter[str] = Counter(dict.fromkeys(plugins, 0))
    server_restarts: Counter[str] = Counter(dict.fromkeys(plugins, 0))
    pids: dict[tuple[str, str], int] = {}
    for plugin, process, counters in files:
        pid = int(counters[counter_layout.PID])
        alive = started(pid) == counters[counter_layout.PROCESS_START] > 0
        if process == SERVER:
            server_restarts[plugin] += int(counters[counter_layout.STARTS]) - 1
        else:
            workers[plugin] += alive
            worker_restarts[plugin] += int(counters[counter_layout.RESTARTS])
        if alive:
            pids[plugin, process] = pid
    yield _by_plugin(GaugeMetricFamily, "workers", "Processes that run a plugin's handlers", workers)
    yield _by_plugin(
        CounterMetricFamily, "worker_restarts", "Workers that came in the place of one that ended", worker_restarts
    )
    yield _by_plugin(
        CounterMetricFamily, "server_restarts", "Starts of a plugin's server after its first one", server_restarts
    )
    yield from _memory(pids)


def _by_plugin(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily], name: str, meaning: str, values: Mapping[str, int]
) -> Metric:
    family = kind(f"kong_python_{name}", meaning, labels=["plugin"])
    for plugin, value in values.items():
        family.add_metric([plugin], value)
    return family


def _memory(pids: Mapping[tuple[str, str], int]) -> Iterator[Metric]:
    labels = ["plugin", "process"]
    resident = GaugeMetricFamily(
        "kong_python_process_resident_memory_bytes", "Memory of a process, with all that it shares", labels=labels
    )
    proportional = GaugeMetricFamily(
        "kong_python_process_proportional_memory_bytes",
        "Memory of a process, with its share of what it shares", labels=labels,
    )  # fmt: skip
    for (plugin, process), pid in pids.items():
        usage = memory(pid)
        if usage is not None:
            resident.add_metric([plugin, process], usage.resident)
            if usage.proportional is not None:
                proportional.add_metric([plugin, process], usage.proportional)
    yield resident
    yield proportional


def _sums(workers: Iterable[Sequence[float]]) -> list[float]:
    """Add up the counters of a plugin's workers; the plugin has the phases of all its workers."""
    all_counters = list(workers)
    phases = 0
    for counters in all_counters:
        phases |= int(counters[counter_layout.PHASE_SET])
    total = [sum(numbers) for numbers in zip(*all_counters, strict=True)]
    total[counter_layout.PHASE_SET] = phases
    return total


def _of_events(plugins: Mapping[str, Sequence[float]]) -> Iterator[Metric]:
    labels = ["plugin", "phase"]
    events = CounterMetricFamily(
        "kong_python_events", "Events, by how they ended; no handler ran for a refused one", labels=[*labels, "outcome"]
    )
    durations = HistogramMetricFamily(
        "kong_python_handler_duration_seconds", "Time in a handler, its waiting for Kong included", labels=labels
    )
    waited = CounterMetricFamily(
        "kong_python_kong_wait_seconds", "The part of the time in handlers that is spent in PDK calls", labels=labels
    )
    calls = CounterMetricFamily("kong_python_pdk_calls", "PDK calls of handlers", labels=[*labels, "function"])
    for plugin, counters in plugins.items():
        for phase, block in _blocks(counters):
            for number, outcome in enumerate(counter_layout.OUTCOMES):
                events.add_metric([plugin, phase, outcome], block[counter_layout.OUTCOME + number])
            durations.add_metric([plugin, phase], _buckets(block), block[counter_layout.SECONDS])
            waited.add_metric([plugin, phase], block[counter_layout.WAITED])
            for function, offset in counter_layout.CALL_OFFSETS.items():
                if block[offset]:
                    calls.add_metric([plugin, phase, function], block[offset])
    yield from (events, durations, waited, calls)


def _blocks(counters: Sequence[float]) -> Iterator[tuple[str, Sequence[float]]]:
    """Give the counters of each phase that the plugin has a handler for, or that Kong called."""
    for number, phase in enumerate(PHASES):
        block = counters[counter_layout.BLOCKS[phase] : counter_layout.BLOCKS[phase] + counter_layout.PHASE_SIZE]
        if int(counters[counter_layout.PHASE_SET]) >> number & 1 or any(block):
            yield phase, block


def _buckets(block: Sequence[float]) -> list[tuple[str, float]]:
    counts = block[counter_layout.BUCKET : counter_layout.BUCKET + len(_BOUNDS)]
    return list(zip(_BOUNDS, itertools.accumulate(counts), strict=True))
