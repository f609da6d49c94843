"""The example plugins of ``plugins/``, over both protocols of Kong."""

from __future__ import annotations

import functools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from integration.plugins.nodes import PLUGINS, ROOT, Node, copy_plugins
from kong_pdk.cli import main
from kong_pdk.plugin import Plugin, find, load
from kong_pdk.schema.config_values import validate_config

Gateway = Callable[..., Node]
Snippet = Callable[[str, str], str]

_AT_ONCE = 4


class Nodes:
    """Running nodes: tests with the same configuration share one, as a start takes a second."""

    def __init__(self) -> None:
        self._running: OrderedDict[tuple[object, ...], Node] = OrderedDict()

    def get(self, names: tuple[str, ...], configuration: str, environment: Mapping[str, str]) -> Node:
        key = (names, configuration, *sorted(environment.items()))
        node = self._running.pop(key, None)
        if node is not None and node.process.poll() is not None:
            node.close()
            node = None
        if node is None:
            while len(self._running) >= _AT_ONCE:
                self._running.popitem(last=False)[1].close()
            node = Node(names, configuration, environment)
        self._running[key] = node
        node.service.begin()
        node.trouble()
        return node

    def close(self) -> None:
        for node in self._running.values():
            node.close()


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    yield nodes
    nodes.close()


@pytest.fixture(scope="module", params=["protobuf", "msgpack"])
def protocol(request: pytest.FixtureRequest) -> str:
    """Give the protocol of the node. pytest runs all tests of a file over one protocol, then all over the other."""
    return str(request.param)


@pytest.fixture
def gateway(nodes: Nodes, protocol: str) -> Gateway:
    """Serve example plugins: ``gateway("py-hello", configuration="...", environment={...})``.

    In the configuration, ``http://upstream:9000`` is the node's ``service``. A node may have served other tests with
    the same configuration; one that a test has stopped is not used again.
    """

    def get(*names: str, configuration: str, environment: Mapping[str, str] | None = None) -> Node:
        return nodes.get(names, configuration, {**(environment or {}), "KONG_PYTHON_PROTOCOL": protocol})

    return get


@pytest.fixture
def default_gateway(nodes: Nodes) -> Gateway:
    """Serve example plugins as ``gateway`` does, over the default protocol alone: for tests of one configuration."""

    def get(*names: str, configuration: str, environment: Mapping[str, str] | None = None) -> Node:
        return nodes.get(names, configuration, environment or {})

    return get


@functools.cache
def _loaded(name: str) -> Plugin:
    return load(next(each for each in find(PLUGINS)[0] if each.name == name))


@pytest.fixture
def instance() -> Callable[..., Any]:
    """Make an instance of an example plugin as a plugin server does: ``instance("py-hello", message="hi")``."""

    def make(name: str, **config: Any) -> Any:
        plugin = _loaded(name)
        filled, errors = validate_config(plugin.schema, config)
        assert not errors, errors
        return plugin.cls(filled)

    return make


@pytest.fixture
def run_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a run directory with a short name: the path of a socket may have 107 bytes."""
    monkeypatch.setenv("KONG_PYTHON_RUN_DIR", str(tmp_path_factory.mktemp("r")))


@pytest.fixture
def snippet(tmp_path: Path, run_dir: None, capsys: pytest.CaptureFixture[str]) -> Snippet:
    """Give the ``kong.yml`` of a plugin's page, after ``kong-python check`` has found it valid with that plugin."""

    def take(page: str, plugin: str) -> str:
        found = re.search(r"^```yaml\n(_format_version.*?)^```$", (ROOT / page).read_text(), re.S | re.M)
        assert found, f"{page} shows no kong.yml"
        file = tmp_path / "kong.yml"
        file.write_text(found[1])
        folder = copy_plugins([plugin], tmp_path / "plugins")
        assert main(["check", "--plugins", str(folder), str(file)]) == 0, capsys.readouterr()
        return found[1]

    return take
