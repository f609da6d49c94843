"""Our plugin servers with the probe, for replays: one process for each mode and interface file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from conformance import kong_interface
from conformance.notes import Notes
from conformance.recordings import Case
from conformance.replay import REPLAYS, Replay
from unit.server.served import Served, serving

PLUGIN = """
import sys
from pathlib import Path
sys.path.append({tests!r})
from conformance.probe_plugin import probe
Plugin = probe(Path({notes!r}))
"""


class Servers:
    """A server in one mode for each kind of interface file, and the recordings that are played to it."""

    def __init__(self, mode: str, folder: Path) -> None:
        self.mode = mode
        self._folder = folder
        self._servers: dict[bool, tuple[Served, Notes]] = {}
        self._replays: dict[str, Replay] = {}
        self._running: list[Iterator[object]] = []

    def replay(self, case: Case) -> Replay:
        """The replay of a case's recording, which goes on where the last case ended."""
        name = case.recording.name
        if name not in self._replays:
            self._replays[name] = self.new_replay(case)
        return self._replays[name]

    def new_replay(self, case: Case) -> Replay:
        """A replay that has played nothing yet."""
        server, notes = self._server(case.recording.extended)
        return REPLAYS[case.protocol](case.recording, server.socket, notes)

    def _server(self, extended: bool) -> tuple[Served, Notes]:
        if extended not in self._servers:
            folder = self._folder / ("extended" if extended else "stock")
            folder.mkdir()
            running = serving(folder, self.mode)
            serve = next(running)
            self._running.append(running)
            notes = folder / "notes"
            text = PLUGIN.format(tests=str(Path(__file__).parents[1]), notes=str(notes))
            interface = folder / "pluginsocket.proto"
            interface.write_text(kong_interface.ours(extended), "utf-8")
            self._servers[extended] = (serve(text, KONG_PYTHON_INTERFACE_FILE=str(interface)), Notes(notes))
        return self._servers[extended]

    def end(self) -> None:
        for replay in self._replays.values():
            replay.close()
        for _, notes in self._servers.values():
            notes.close()
        for running in self._running:
            next(running, None)
