"""Plugins written for kong-pdk work unchanged, over both command lines and protocols and in every mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from integration.kong_pdk_style.plugin_checks import CHECKS, no_handler_failed_except_the_one_that_raises_on_purpose
from integration.kong_pdk_style.running_plugins import PLAIN_PLUGINS, PLUGINS, Kong, files, folder

# All plugins, by each command line over each protocol; PLAIN_VALUES has the same pairs, most of them in another mode.
SERVED = {
    "folder, MsgPack:1, -g": (folder, "MsgPack:1", ("-g",)),
    "folder, ProtoBuf:1, -m": (folder, "ProtoBuf:1", ("-m",)),
    "files, MsgPack:1": (files, "MsgPack:1", ()),
    "files, ProtoBuf:1, -gevent": (files, "ProtoBuf:1", ("-gevent",)),
}
PLAIN_VALUES = [
    (folder, "MsgPack:1", ("--no-lua-style", "-multiprocessing")),
    (folder, "ProtoBuf:1", ("-no-lua-style", "-vv")),
    (files, "MsgPack:1", ("--no-lua-style", "-m")),
    (files, "ProtoBuf:1", ("-no-lua-style", "-gevent")),
]


@pytest.fixture(scope="module", params=SERVED)
def kong(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kong]:
    """A gateway with all plugins, served in each way."""
    serve, protocol, options = SERVED[request.param]
    processes = 2 if "-m" in options else 1
    with serve(tmp_path_factory.mktemp("k"), PLUGINS, protocol, *options, processes=processes) as kong:
        yield kong
        no_handler_failed_except_the_one_that_raises_on_purpose(kong)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_plugin_works_as_its_author_expects(kong: Kong, check: Callable[[Kong], None]) -> None:
    check(kong)


@pytest.mark.parametrize(("serve", "protocol", "options"), PLAIN_VALUES)
def test_plain_values(tmp_path, serve, protocol, options):
    with serve(tmp_path, PLAIN_PLUGINS, protocol, *options) as kong:
        headers = kong.get("/plain-values").headers
    assert (headers["x-method"], headers["x-missing"], headers["x-kept"]) == ("GET", "None", "'value'")
    assert "kong.response.get_source cannot be called in the access phase" in headers["x-refused"]
