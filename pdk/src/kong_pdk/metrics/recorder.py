"""Counts the events of the plugins that this process serves."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from kong_pdk.metrics import counter_layout
from kong_pdk.metrics.counter_file import SERVER, open_counters, path_of
from kong_pdk.metrics.process_stats import started
from kong_pdk.protocol import PHASES

_log = logging.getLogger(__name__)
_MOST_NOTED = 128
_PAUSE = 1.0  # seconds
_BOUNDS, _CALLS = counter_layout.BOUNDS, counter_layout.CALL_OFFSETS
_BUCKET = counter_layout.BUCKET
_OTHER = _CALLS[counter_layout.OTHER]

Event = tuple[str, int, float, float, Sequence[str]]
"""A run of a handler: its phase, how it ended (index in :data:`~kong_pdk.metrics.counter_layout.OUTCOMES`), the seconds
that it took, the seconds that it spent in PDK calls, and the functions that it called."""


class Recorder:
    """The counters of one plugin in one process. A process that takes the place of another goes on with its counters.

    Events are only noted at first: to count some together, without a lock for each, costs a fraction. The file has
    them within a second, so that a process that is killed loses as much.
    """

    def __init__(self, directory: Path, plugin: str, phases: Iterable[str], worker: int, server: int) -> None:
        """:param directory: of the files of counters.

        :param phases: those that the plugin has handlers for: their counters are shown from the start.
        :param worker: this process's number among the workers.
        :param server: the process id of the server that has the workers; a worker that comes anew to the same server
            counts as a restart.
        :raises OSError: the file of counters cannot be made.
        """
        self._counters = counters = open_counters(path_of(directory, plugin, str(worker)))
        self._blocks = {
            phase: list(counters[start : start + counter_layout.PHASE_SIZE])
            for phase, start in counter_layout.BLOCKS.items()
        }
        self._noted: list[Event] = []
        self._changed: set[str] = set()
        self._counting = threading.Lock()
        counters[counter_layout.PHASE_SET] = sum(1 << number for number, phase in enumerate(PHASES) if phase in phases)
        if counters[counter_layout.STARTS] and counters[counter_layout.SERVER] == server:
            counters[counter_layout.RESTARTS] += 1
        counters[counter_layout.SERVER] = server
        _sign(counters)

    def add(self, event: Event) -> None:
        """Note an event."""
        self._noted.append(event)
        if len(self._noted) >= _MOST_NOTED:
            with self._counting:
                self._count()

    def write(self) -> None:
        """Write to the file what was counted since the last time."""
        with self._counting:
            self._count()
            for phase in self._changed:
                start = counter_layout.BLOCKS[phase]
                self._counters[start : start + counter_layout.PHASE_SIZE] = array("d", self._blocks[phase])
            self._changed.clear()

    def _count(self) -> None:
        events = self._noted[:]
        # At its front: other threads note theirs at its end meanwhile.
        del self._noted[: len(events)]
        for phase in {event[0] for event in events} & self._blocks.keys():
            self._changed.add(phase)
            _add([event for event in events if event[0] == phase], self._blocks[phase])


def _add(events: Iterable[Event], block: list[float]) -> None:
    place_of, bounds = _CALLS.get, _BOUNDS
    in_handlers = in_calls = 0.0
    for _, outcome, seconds, waited, functions in events:
        block[outcome] += 1
        block[_BUCKET + bisect_left(bounds, seconds)] += 1
        in_handlers += seconds
        in_calls += waited
        for function in functions:
            block[place_of(function, _OTHER)] += 1
    block[counter_layout.SECONDS] += in_handlers
    block[counter_layout.WAITED] += in_calls


_recorders: dict[str, Recorder] = {}


def recorder_of(plugin: str) -> Recorder | None:
    """Give the counters of a plugin; None where nothing is counted."""
    return _recorders.get(plugin)


def record_worker(directory: Path, plugins: Mapping[str, Iterable[str]], worker: int, server: int) -> None:
    """Count the events of plugins in this process from now on. Where that is not possible, a line says so.

    :param plugins: the phases of each that it has handlers for.
    :param worker: the number of this process among the workers of its server.
    :param server: the process id of that server, this process's own where it has no workers.
    """
    for plugin, phases in plugins.items():
        with _saying_why_not(plugin, directory):
            _recorders[plugin] = Recorder(directory, plugin, phases, worker, server)
    threading.Thread(target=_write_now_and_then, name="metrics", daemon=True).start()


def write_all() -> None:
    """Write what was counted: this process is about to end."""
    for recorder in _recorders.values():
        recorder.write()


def _write_now_and_then() -> None:
    while True:
        time.sleep(_PAUSE)
        write_all()


def record_server(directory: Path, plugins: Iterable[str]) -> None:
    """Count that this process has started as the server of plugins. Where that is not possible, a line says so."""
    for plugin in plugins:
        with _saying_why_not(plugin, directory):
            _sign(open_counters(path_of(directory, plugin, SERVER)))


@contextlib.contextmanager
def _saying_why_not(plugin: str, directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        _log.warning("%s: no metrics: cannot write to %s: %s; give it room, and restart", plugin, directory, why)


def _sign(counters: memoryview[float]) -> None:
    counters[counter_layout.STARTS] += 1
    counters[counter_layout.PROCESS_START] = started(os.getpid())
    counters[counter_layout.PID] = os.getpid()
