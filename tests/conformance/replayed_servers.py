"""Our plugin servers with the probe, for replays: a process for each mode and recording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from conformance.handler_results import Results
from conformance.recordings import STOCK_INTERFACE, Case, Recording
from conformance.replay import REPLAYS, Replay
from kong_pdk.wire.interface import extend
from unit.server.server_process import serving

PLUGIN = """
import sys
from pathlib import Path
sys.path.append({tests!r})
from conformance.probe_plugin import probe
Plugin = probe(Path({notes!r}))
"""


class Servers:
    """The servers of one mode, one for each recording: late results do not mix with those of another recording."""

    def __init__(self, mode: str, folder: Path, stack: ExitStack) -> None:
        self.mode = mode
        self._folder = folder
        self._stack = stack
        self._servers: dict[str, tuple[Path, Results]] = {}
        self._replays: dict[str, Replay] = {}

    def replay(self, case: Case) -> Replay:
        """Give the replay of a case's recording, which continues after the last case."""
        name = case.recording.name
        if name not in self._replays:
            self._replays[name] = self.new_replay(case)
            self._stack.callback(self._replays[name].close)
        return self._replays[name]

    def new_replay(self, case: Case) -> Replay:
        """Give a replay that has not played anything."""
        recording = case.recording
        if recording.name not in self._servers:
            self._servers[recording.name] = self._serve(recording)
        return REPLAYS[case.protocol](recording, *self._servers[recording.name])

    def _serve(self, recording: Recording) -> tuple[Path, Results]:
        folder = self._folder / str(len(self._servers))  # Short: the path of a socket is limited to about 100 bytes.
        folder.mkdir()
        notes, interface = folder / "notes", folder / "pluginsocket.proto"
        stock = STOCK_INTERFACE.read_text("utf-8")
        interface.write_text(extend(stock) if recording.extended else stock, "utf-8")
        serve = self._stack.enter_context(contextmanager(serving)(folder, self.mode))
        text = PLUGIN.format(tests=str(Path(__file__).parents[1]), notes=str(notes))
        served = serve(text, KONG_PYTHON_INTERFACE_FILE=str(interface))
        results = Results(notes)
        self._stack.callback(results.close)
        return served.socket, results


def servers_of(mode: str, folder: Path) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(mode, folder, stack)
