"""Counts the events of the plugins of this process, in counter files."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path

from kong_pdk.metrics import counter_layout
from kong_pdk.metrics.counter_file import SERVER, open_counters, path_of
from kong_pdk.metrics.process_stats import started
from kong_pdk.protocol import PHASES

_log = logging.getLogger(__name__)
_MOST_EVENTS = 128
_PAUSE = 1.0  # seconds
_BOUNDS, _CALLS = counter_layout.BOUNDS, counter_layout.CALL_OFFSETS
_BUCKET = counter_layout.BUCKET
_OTHER = _CALLS[counter_layout.OTHER]

Event = tuple[str, int, float, float, Sequence[str]]
"""A run of a handler: its phase, its outcome (index in :data:`~kong_pdk.metrics.counter_layout.OUTCOMES`), the seconds
that it took, the seconds that it spent in PDK calls, and the functions that it called."""


class Recorder:
    """The counters of a plugin in a process. A process that replaces another one continues its counters.

    Events are collected without a lock and counted together, which is much cheaper. They reach the file within a
    second; a process that is killed loses the events of that second.
    """

    def __init__(self, directory: Path, plugin: str, phases: Iterable[str], worker: int, server: int) -> None:
        """:param directory: the directory of the counter files.

        :param plugin: the name of the plugin.
        :param phases: the phases that the plugin has handlers for, whose counters are shown from the start.
        :param worker: the number of this worker.
        :param server: the process id of the master; a further start of a worker of the same master is a restart.
        :raises OSError: the counter file cannot be made.
        """
        self._counters = counters = open_counters(path_of(directory, plugin, str(worker)))
        self._blocks = {
            phase: list(counters[start : start + counter_layout.PHASE_SIZE])
            for phase, start in counter_layout.BLOCKS.items()
        }
        self._events: list[Event] = []
        self._changed: set[str] = set()
        self._counting = threading.Lock()
        counters[counter_layout.PHASE_SET] = sum(1 << number for number, phase in enumerate(PHASES) if phase in phases)
        if counters[counter_layout.STARTS] and counters[counter_layout.MASTER_PID] == server:
            counters[counter_layout.RESTARTS] += 1
        counters[counter_layout.MASTER_PID] = server
        _write_process(counters)

    def add(self, event: Event) -> None:
        """Count an event."""
        self._events.append(event)
        if len(self._events) >= _MOST_EVENTS:
            with self._counting:
                self._count()

    def refuse(self, phase: str) -> None:
        """Count an event for which there was no room. It has no time."""
        if phase in self._blocks:
            with self._counting:
                self._blocks[phase][counter_layout.REFUSED] += 1
                self._changed.add(phase)

    def write(self) -> None:
        """Write the new counts to the file."""
        with self._counting:
            self._count()
            for phase in self._changed:
                start = counter_layout.BLOCKS[phase]
                self._counters[start : start + counter_layout.PHASE_SIZE] = array("d", self._blocks[phase])
            self._changed.clear()

    def _count(self) -> None:
        events = self._events[:]
        # At the front: other threads append at the end meanwhile.
        del self._events[: len(events)]
        for phase in {event[0] for event in events} & self._blocks.keys():
            self._changed.add(phase)
            _add([event for event in events if event[0] == phase], self._blocks[phase])


def _add(events: Sequence[Event], block: list[float]) -> None:
    _, outcomes, seconds, waited, functions = zip(*events, strict=True)
    for outcome, count in Counter(outcomes).items():
        block[outcome] += count
    for bucket, count in Counter(map(bisect_left, repeat(_BOUNDS), seconds)).items():
        block[_BUCKET + bucket] += count
    for function, count in Counter(chain.from_iterable(functions)).items():
        block[_CALLS.get(function, _OTHER)] += count
    block[counter_layout.SECONDS] += sum(seconds)
    block[counter_layout.WAITED] += sum(waited)


_recorders: dict[str, Recorder] = {}


def recorder_of(plugin: str) -> Recorder | None:
    """Give the recorder of a plugin; None where its events are not counted."""
    return _recorders.get(plugin)


def record_worker(directory: Path, plugins: Mapping[str, Iterable[str]], worker: int, server: int) -> None:
    """Count the events of plugins in this process from now on, or log why it is not possible.

    :param directory: the directory of the counter files.
    :param plugins: the phases that each plugin has handlers for.
    :param worker: the number of this worker.
    :param server: the process id of the master.
    """
    for plugin, phases in plugins.items():
        with _logging_failure(plugin, directory):
            _recorders[plugin] = Recorder(directory, plugin, phases, worker, server)
    threading.Thread(target=_write_regularly, name="metrics", daemon=True).start()


def write_all() -> None:
    """Write the new counts of all plugins."""
    for recorder in _recorders.values():
        recorder.write()


def _write_regularly() -> None:
    while True:
        time.sleep(_PAUSE)
        write_all()


def record_server(directory: Path, plugins: Iterable[str]) -> None:
    """Count that this process has started as the master of plugins, or log why it is not possible."""
    for plugin in plugins:
        with _logging_failure(plugin, directory):
            _write_process(open_counters(path_of(directory, plugin, SERVER)))


@contextlib.contextmanager
def _logging_failure(plugin: str, directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        _log.warning("%s: no metrics: cannot write to %s: %s; give it room, and restart", plugin, directory, why)


def _write_process(counters: memoryview[float]) -> None:
    counters[counter_layout.STARTS] += 1
    counters[counter_layout.PROCESS_START] = started(os.getpid())
    counters[counter_layout.PID] = os.getpid()
