"""Counts the events of the plugins that this process serves."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from kong_pdk.metrics import layout
from kong_pdk.metrics.counter_file import SERVER, open_counters, path_of
from kong_pdk.metrics.processes import started
from kong_pdk.wire.phases import PHASES

_log = logging.getLogger(__name__)
_PAUSE = 1.0  # seconds
_BOUNDS, _BUCKET, _SECONDS, _CALLS = layout.BOUNDS, layout.BUCKET, layout.SECONDS, layout.CALL_OFFSETS
_OTHER = _CALLS[layout.OTHER]

Event = tuple[str, int, float, Sequence[tuple[str, float]]]
"""A run of a handler: its phase, how it ended (:data:`~kong_pdk.metrics.layout.OUTCOMES` by number), the seconds that
it took, and the PDK functions that it called with the seconds of each."""


class Recorder:
    """The counters of one plugin in one process. A process that takes the place of another goes on with its counters.

    An event is only noted at its end, and counted within a second together with others, which costs a fraction. A
    process that is killed loses what it has not counted yet.
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
            phase: list(counters[start : start + layout.PHASE_SIZE]) for phase, start in layout.BLOCKS.items()
        }
        self._noted: list[Event] = []
        self.add: Callable[[Event], None] = self._noted.append
        """Note an event."""
        self._counting = threading.Lock()
        counters[layout.PHASE_SET] = sum(1 << number for number, phase in enumerate(PHASES) if phase in phases)
        if counters[layout.STARTS] and counters[layout.SERVER] == server:
            counters[layout.RESTARTS] += 1
        counters[layout.SERVER] = server
        _sign(counters)

    def count(self) -> None:
        """Count what is noted."""
        with self._counting:
            events = self._noted[:]
            # At its front: other threads note theirs at its end meanwhile.
            del self._noted[: len(events)]
            for phase in {event[0] for event in events} & self._blocks.keys():
                block = self._blocks[phase]
                _count([event for event in events if event[0] == phase], block)
                start = layout.BLOCKS[phase]
                self._counters[start : start + layout.PHASE_SIZE] = array("d", block)


def _count(events: Iterable[Event], block: list[float]) -> None:
    """Add events to a block of counters. A list is several times as quick to add to as the file."""
    waited = 0.0
    for _, outcome, seconds, calls in events:
        block[outcome] += 1
        block[_BUCKET + bisect_left(_BOUNDS, seconds)] += 1
        block[_SECONDS] += seconds
        for function, waits in calls:
            waited += waits
            block[_CALLS.get(function, _OTHER)] += 1
    block[layout.WAITED] += waited


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
    threading.Thread(target=_count_now_and_then, name="metrics", daemon=True).start()


def count_all() -> None:
    """Count what is noted: this process is about to end."""
    for recorder in _recorders.values():
        recorder.count()


def _count_now_and_then() -> None:
    while True:
        time.sleep(_PAUSE)
        count_all()


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
    counters[layout.STARTS] += 1
    counters[layout.PROCESS_START] = started(os.getpid())
    counters[layout.PID] = os.getpid()
