"""Plugins written for kong-pdk, word for word, do over both command lines and protocols what their authors meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from unit.kong_pdk_style.plugin_checks import CHECKS
from unit.kong_pdk_style.running_plugins import PLAIN_PLUGINS, PLUGINS, Kong, files, folder

SERVED = {
    "folder, MsgPack:1": (folder, "MsgPack:1", ()),
    "folder, ProtoBuf:1": (folder, "ProtoBuf:1", ()),
    "folder, MsgPack:1, -g": (folder, "MsgPack:1", ("-g",)),
    "folder, ProtoBuf:1, -m": (folder, "ProtoBuf:1", ("-m",)),
    "files, MsgPack:1": (files, "MsgPack:1", ()),
    "files, ProtoBuf:1, -gevent": (files, "ProtoBuf:1", ("-gevent",)),
}


@pytest.fixture(scope="module", params=SERVED)
def kong(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kong]:
    """All plugins behind a gateway, served one way after the other."""
    serve, protocol, options = SERVED[request.param]
    with serve(
        tmp_path_factory.mktemp("k"), PLUGINS, protocol, *options, processes=2 if "-m" in options else 1
    ) as kong:
        yield kong


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_does_what_its_author_meant(kong: Kong, check: Callable[[Kong], None]) -> None:
    check(kong)


@pytest.mark.parametrize("serve", [folder, files])
@pytest.mark.parametrize("protocol", ["MsgPack:1", "ProtoBuf:1"])
@pytest.mark.parametrize("options", [("--no-lua-style", "-vv"), ("-no-lua-style", "-multiprocessing")], ids=" ".join)
def test_plain_values(tmp_path: Path, serve, protocol, options):
    with serve(tmp_path, PLAIN_PLUGINS, protocol, *options) as kong:
        headers = kong.get("/plain-values").headers
    assert (headers["x-method"], headers["x-missing"], headers["x-kept"]) == ("GET", "None", "'value'")
    assert "kong.response.get_source cannot be called in the access phase" in headers["x-refused"]
