"""Plugin servers as processes, and Kong's side of them. A test that needs fewer modes parametrizes ``mode``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_kong import FakeKong, MsgpackKong, ProtobufKong
from server_process import MODES, Connect, Serve, Start, connecting, serving, starting
from unit.metrics.conftest import directory, value

__all__ = ["directory", "value"]

# Each protocol meets all engines, and servers of one worker and of several.
PROTOCOL_OF_MODE: dict[str, type[FakeKong]] = {
    "loop": ProtobufKong,
    "loop-processes": MsgpackKong,
    "threads": ProtobufKong,
    "gevent": MsgpackKong,
    "processes": MsgpackKong,
    "gevent-processes": ProtobufKong,
}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def protocol(mode: str) -> type[FakeKong]:
    """The protocol of a mode. A test of two modes parametrizes both by ``PAIR.items()`` or ``OTHER_PAIR.items()``."""
    return PROTOCOL_OF_MODE[mode]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a plugin server by its command."""
    with starting(tmp_path) as start:
        yield start


@pytest.fixture
def serve(tmp_path: Path, mode: str) -> Iterator[Serve]:
    """Serve a plugin, given as the text of its file, in a mode."""
    with serving(tmp_path, mode) as serve:
        yield serve


@pytest.fixture
def connect(protocol: type[FakeKong]) -> Iterator[Connect]:
    """Connect to a server over a protocol."""
    with connecting(protocol) as connect:
        yield connect
