"""Our plugin servers with the probe, for replays: a process for each mode and recording."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from conformance import kong_interface
from conformance.notes import Notes
from conformance.recordings import Case, Recording
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
    """The servers of one mode: one for each recording, for what a handler notes late is to be taken for no other's."""

    def __init__(self, mode: str, folder: Path) -> None:
        self.mode = mode
        self._folder = folder
        self._servers: dict[str, tuple[Served, Notes]] = {}
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
        if case.recording.name not in self._servers:
            self._servers[case.recording.name] = self._serve(case.recording)
        server, notes = self._servers[case.recording.name]
        return REPLAYS[case.protocol](case.recording, server.socket, notes)

    def _serve(self, recording: Recording) -> tuple[Served, Notes]:
        folder = self._folder / str(len(self._servers))  # short: a socket's path may have some 100 bytes
        folder.mkdir()
        running = serving(folder, self.mode)
        serve = next(running)
        self._running.append(running)
        notes, interface = folder / "notes", folder / "pluginsocket.proto"
        interface.write_text(kong_interface.ours(recording.extended), "utf-8")
        text = PLUGIN.format(tests=str(Path(__file__).parents[1]), notes=str(notes))
        return serve(text, KONG_PYTHON_INTERFACE_FILE=str(interface)), Notes(notes)

    def end(self) -> None:
        """End the servers, and the connections to them."""
        for replay in self._replays.values():
            replay.close()
        for _, notes in self._servers.values():
            notes.close()
        for running in self._running:
            next(running, None)
