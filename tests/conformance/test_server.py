"""The plugin server makes the PDK calls that the recorded one made, and its handler gets what that one's got.

Kong's own bytes are replayed to it, connection by connection. Where Kong refused a call for its phase, ours does not
leave the server: the handler sees a PhaseError.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance import kong_interface
from conformance.exceptions import SERVER
from conformance.notes import Notes
from conformance.recordings import Case, cases
from conformance.replay import REPLAYS, Replay
from conformance.verdict import judge
from unit.server.served import MODES, Served, serving

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
        name = case.recording.name
        if name not in self._replays:
            server, notes = self._server(case.recording.extended)
            self._replays[name] = REPLAYS[case.protocol](case.recording, server.socket, notes)
        return self._replays[name]

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


@pytest.fixture(scope="module", params=MODES)
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers of one mode."""
    servers = Servers(request.param, tmp_path_factory.mktemp("server"))
    yield servers
    servers.end()


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_case(case: Case, servers: Servers, request: pytest.FixtureRequest) -> None:
    """Each event of a case brings the same calls, and each call the same value."""
    judge(case, SERVER, servers.mode, lambda: servers.replay(case).play(case), request)
