"""Kong's interface file decides which protocol a dump asks for and how a server calls, in every mode."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_kong import ExtendedKong, ProtobufKong
from kong_pdk.server.pdk_hints import why_unknown
from kong_pdk.wire.interface import extend
from programs import PLUGINSERVER
from server_process import MODES, OTHER_PAIR, PAIR, run

STOCK_FILE = Path(__file__).parents[3] / "docker/embedded/files/usr/local/kong/include/kong/pluginsocket.proto"
PLUGIN = """
class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        header, _ = kong.request.get_header("x")
        kong.response.set_header("x-got", repr(header))

    response = access

if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server
    start_dedicated_server("probe", Plugin)
"""
EXTENDED_TEXT = extend(STOCK_FILE.read_text("utf-8"))
FILES = {
    "stock": STOCK_FILE.read_text("utf-8"),
    "extended": EXTENDED_TEXT,
    "older": EXTENDED_TEXT.replace("rpc Vault_Get(", "// rpc Vault_Get("),
    "garbage": "garbage",
}


@pytest.fixture(params=["folder", "file"])
def dump(request: pytest.FixtureRequest, tmp_path: Path):
    """Dump a plugin by both command lines; return the protocol and the log."""
    plugin = tmp_path / "probe.py"
    plugin.write_text(PLUGIN)
    command = [plugin] if request.param == "file" else [PLUGINSERVER, "-d", tmp_path]

    def dumped(file: str | None, *options: str, **environment: str) -> tuple[str, str]:
        path = tmp_path / "pluginsocket.proto"
        if file:
            path.write_text(FILES[file])
        done = run(*command, "--dump", *options, **{"KONG_PYTHON_INTERFACE_FILE": str(path), **environment})
        assert done.returncode == 0, done.stderr
        dump = json.loads(done.stdout)
        return "MsgPack:1" if isinstance(dump, list) else dump["Protocol"], done.stderr

    return dumped


@pytest.mark.parametrize(
    ("file", "protocol"),
    [("stock", "MsgPack:1"), ("older", "MsgPack:1"), ("extended", "ProtoBuf:1")],
)
def test_the_file_decides_where_no_option_or_variable_does(dump, file, protocol):
    assert dump(file) == (protocol, "")


def test_a_variable_that_names_no_file_is_an_error(dump):
    protocol, log = dump(None)
    assert protocol == "MsgPack:1"
    assert "pluginsocket.proto does not exist; set KONG_PYTHON_INTERFACE_FILE to Kong's" in log


def test_without_the_variable_no_file_is_no_error(dump):
    assert dump(None, KONG_PYTHON_INTERFACE_FILE="") == ("MsgPack:1", "")


def test_a_variable_wins_over_the_file(dump):
    assert dump("extended", KONG_PYTHON_PROTOCOL="msgpack") == ("MsgPack:1", "")
    assert dump("stock", KONG_PYTHON_PROTOCOL="protobuf") == ("ProtoBuf:1", "")


def test_an_option_wins_over_the_variable(dump):
    assert dump("stock", "--protocol", "protobuf", KONG_PYTHON_PROTOCOL="msgpack") == ("ProtoBuf:1", "")
    assert dump("extended", "--protocol", "msgpack") == ("MsgPack:1", "")


def test_a_file_of_another_kind_is_named(dump):
    protocol, log = dump("garbage")
    assert protocol == "MsgPack:1"
    assert "pluginsocket.proto is not Kong's interface file: it has no service" in log


@pytest.mark.parametrize(
    ("mode", "file", "kong", "got"),
    [
        *((mode, "stock", ProtobufKong, "None") for mode in PAIR),
        *((mode, "extended", ExtendedKong, "''") for mode in MODES),
        *((mode, None, ProtobufKong, "None") for mode in OTHER_PAIR),
    ],
)
def test_a_server_calls_what_the_file_names(serve, tmp_path, file, kong, got):
    """An empty header is told from none by a method that an unmodified Kong does not have."""
    path = tmp_path / "pluginsocket.proto"
    if file:
        path.write_text(FILES[file])
    connected = kong(serve(PLUGIN, KONG_PYTHON_INTERFACE_FILE=str(path)).socket)
    assert connected.event(connected.start("probe"), "access", {"kong.request.get_header": ""})
    assert connected.made[-1] == ("kong.response.set_header", ["x-got", got])
    connected.close()


@pytest.mark.parametrize("mode", ["threads", "gevent", "processes"])
def test_a_file_that_serves_itself_calls_what_the_file_names(start, mode, tmp_path):
    (tmp_path / "probe.py").write_text(PLUGIN)
    path = tmp_path / "pluginsocket.proto"
    path.write_text(EXTENDED_TEXT)
    kong = ExtendedKong(start(tmp_path / "probe.py", *MODES[mode], KONG_PYTHON_INTERFACE_FILE=str(path)).socket)
    assert kong.event(kong.start("probe"), "access", {"kong.request.get_header": ""})
    assert kong.made[-1] == ("kong.response.set_header", ["x-got", "''"])
    kong.close()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("kong.request.get_body", "is not among the methods that Kong's interface file names"),
        ("kong.request.get_heeder", "did you mean kong.request.get_header?"),
        ("kong.moon.get", "if a newer Kong has it, set KONG_PYTHON_PROTOCOL=msgpack"),
        ("kong.vault.try", "cannot be called by a plugin server: its argument is a Lua function"),
    ],
)
def test_why_a_function_is_unknown(function, words):
    assert words in why_unknown(function)
