"""A plugin server in this process, and Kong's side of both protocols.

Tests with a server run on the engines ``threads`` and ``loop``. ``tests/integration/server/test_on_gevent.py`` runs the
tests of this folder once more, on the engine ``gevent``, which needs a process of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from fake_kong import ExtendedKong, FakeKong, MsgpackKong, ProtobufKong
from gevent import monkey
from kong_pdk.mode import GEVENT, LOOP, THREADS
from kong_pdk.plugin import Plugin
from kong_pdk.plugin.phase_methods import async_phases
from kong_pdk.protocol import PHASES
from kong_pdk.server import pdk_hints
from kong_pdk.server.listener import Listener
from kong_pdk.server.server import EngineOptions, Server
from kong_pdk.wire.interface import EXTENDED, STOCK
from waiting import DEADLINE

ENGINES = [GEVENT] if monkey.is_module_patched("threading") else [THREADS, LOOP]
KINDS: dict[str, type[FakeKong]] = {"stock": ProtobufKong, "extended": ExtendedKong, "msgpack": MsgpackKong}


class Serve:
    """Serves classes as plugin ``probe``, each on a socket of its own, whose path it gives."""

    def __init__(self, folder: Path, engine: str) -> None:
        self._folder = folder
        self.interface = STOCK
        self.engine = engine
        self._running: dict[Path, tuple[Server, Future[bool]]] = {}

    def __call__(self, cls: type, **attributes: Any) -> Path:
        phases = tuple(phase for phase in PHASES if hasattr(cls, phase))
        given: dict[str, Any] = {"version": "1.0.0", "priority": 1, "schema": (), "async_phases": async_phases(cls)}
        given.update(attributes)
        plugin = Plugin("probe", Path(__file__), cls=cls, phases=phases, **given)
        path = self._folder / f"{len(self._running)}.sock"
        listener = Listener(path)
        listener.publish()
        server = Server([plugin], [listener.socket], interface=self.interface, engines=EngineOptions(self.engine))
        ended: Future[bool] = Future()
        threading.Thread(target=lambda: ended.set_result(server.run())).start()
        self._running[path] = (server, ended)
        return path

    def server(self, path: Path) -> Server:
        """The server that listens there."""
        return self._running[path][0]

    def stop(self, path: Path, close_seconds: float = 0.0) -> bool:
        """Stop a server; whether all its handlers came to their end.

        :param close_seconds: how long to wait for ``close()`` of its instances.
        """
        server, ended = self._running[path]
        server.stop()
        is_idle = ended.result(DEADLINE)
        server.close_instances(close_seconds)
        return is_idle


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "on_threads: about the engine threads alone")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is about the engine ``threads`` where the engine is another one."""
    items[:] = [
        item
        for item in items
        if not (item.get_closest_marker("on_threads") and item.callspec.params["engine"] != THREADS)
    ]


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the functions that were warned of, since a process does so once."""
    monkeypatch.setattr(pdk_hints, "_told", set())


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """How events wait."""
    name: str = request.param
    return name


@pytest.fixture
def serve(tmp_path: Path, engine: str) -> Iterator[Serve]:
    """Serve a class as plugin ``probe``; gives the socket's path, and stops the servers at the end."""
    serving = Serve(tmp_path, engine)
    yield serving
    for path in serving._running:
        serving.stop(path)


@pytest.fixture(params=["stock", "extended", "msgpack"])
def connect_any(request: pytest.FixtureRequest, serve: Serve) -> Iterator[Callable[[Path], FakeKong]]:
    """Connect to a server over MsgPack:1, and over ProtoBuf:1 with either interface."""
    yield from _connecting(request.param, serve)


@pytest.fixture(params=["extended", "msgpack"])
def connect_whole(request: pytest.FixtureRequest, serve: Serve) -> Iterator[Callable[[Path], FakeKong]]:
    """Connect to a server over what reaches the whole PDK."""
    yield from _connecting(request.param, serve)


def _connecting(kind: str, serve: Serve) -> Iterator[Callable[[Path], FakeKong]]:
    opened: list[FakeKong] = []
    if kind == "extended":
        serve.interface = EXTENDED

    def open(path: Path) -> FakeKong:
        opened.append(KINDS[kind](path))
        return opened[-1]

    yield open
    for kong in opened:
        kong.close()


@pytest.fixture(params=[ProtobufKong, MsgpackKong], ids=lambda kind: kind.name)
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], FakeKong]]:
    """Connect to a server, over one protocol and the other."""
    opened: list[FakeKong] = []

    def open(path: Path) -> FakeKong:
        kong: FakeKong = request.param(path)
        opened.append(kong)
        return kong

    yield open
    for kong in opened:
        kong.close()
