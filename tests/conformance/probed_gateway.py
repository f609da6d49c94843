"""The embedded gateway with a probe behind it, as it stood beside a recording."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import Generic, TypeVar

import pytest
from conformance import kong_interface
from conformance.note_probe import NoteProbe
from conformance.probe_server import ProbeServer
from conformance.recordings import Recording, node_id
from conformance.running_gateway import RunningGateway

Setup = TypeVar("Setup")


class Setups(ABC, Generic[Setup]):
    """One for each recording, made when its first case needs it."""

    def __init__(self, stack: ExitStack, folders: pytest.TempPathFactory) -> None:
        self._stack = stack
        self._folders = folders
        self._made: dict[str, Setup] = {}

    def of(self, recording: Recording) -> Setup:
        if recording.name not in self._made:
            self._made[recording.name] = self._setup(recording, self._folders.mktemp("kong"))
        return self._made[recording.name]

    @abstractmethod
    def _setup(self, recording: Recording, prefix: Path) -> Setup: ...

    def _gateway(
        self, recording: Recording, probe: ProbeServer | NoteProbe, configuration: str, **environment: str
    ) -> RunningGateway:
        """Start a gateway in the probe's folder; its configuration is in ``kong.yml`` there."""
        prefix = probe.path.parent
        (prefix / "dump.json").write_text(probe.dump())
        (prefix / "kong.yml").write_text(configuration)
        (prefix / "pluginsocket.proto").write_text(kong_interface.of(recording))
        environment = {
            "KONG_DECLARATIVE_CONFIG": str(prefix / "kong.yml"),
            "KONG_PLUGINS": "bundled,probe",
            "KONG_PLUGINSERVER_NAMES": "probe",
            "KONG_PLUGINSERVER_PROBE_SOCKET": str(probe.path),
            "KONG_PLUGINSERVER_PROBE_QUERY_CMD": f"cat '{prefix}/dump.json'",
            "KONG_TRUSTED_IPS": "127.0.0.1",
            "KONG_NODE_ID": node_id(),
            **environment,
        }
        return self._stack.enter_context(RunningGateway(prefix, environment, prefix / "pluginsocket.proto"))
