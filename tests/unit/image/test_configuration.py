"""From a folder of plugins to files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from kong_pdk.exit_status import StartError
from kong_pdk.image import configuration
from kong_pdk.image.run_directory import RunDirectory
from kong_pdk.wire.interface import extend

STOCK_FILE = Path(__file__).parents[3] / "docker/embedded/files/usr/local/kong/include/kong/pluginsocket.proto"


@pytest.mark.parametrize(
    ("name", "protocol"), [("msgpack", "MsgPack:1"), ("", "ProtoBuf:1"), ("ProtoBuf", "ProtoBuf:1")]
)
def test_the_dump_is_in_the_chosen_protocol(
    run: RunDirectory, environ: Mapping[str, str], name: str, protocol: str
) -> None:
    found = configuration.read({**environ, "KONG_PYTHON_PROTOCOL": name}, (), run)
    configuration.write(found, environ)
    dumped = json.loads(run.dump("good").read_text())
    plugins = dumped["Plugins"] if protocol == "ProtoBuf:1" else dumped
    assert plugins[0]["Name"] == "good"
    assert plugins[0]["Priority"] == 42


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("KONG_PYTHON_PROTOCOL", "grpc", "KONG_PYTHON_PROTOCOL is 'grpc'; set it to protobuf or msgpack"),
        ("KONG_PYTHON_ON_BROKEN_PLUGIN", "ignore", "set it to fail or skip"),
        ("KONG_PYTHON_DRAIN_SECONDS", "-1", "set it to a number of seconds"),
        ("KONG_PYTHON_DRAIN_SECONDS", "soon", "set it to a number of seconds"),
    ],
)
def test_a_setting_without_meaning_is_named(
    run: RunDirectory, environ: Mapping[str, str], variable: str, value: str, expected: str
) -> None:
    with pytest.raises(StartError, match=expected):
        configuration.read({**environ, variable: value}, (), run)


@pytest.mark.usefixtures("add_broken")
def test_broken_plugins_are_not_served(run: RunDirectory, environ: Mapping[str, str]) -> None:
    found = configuration.read(environ, (), run)
    assert found.changes.servers == ("good",)
    assert [problem.plugin for problem in found.problems] == ["bad"]
    assert "bad.py:2" in str(found.problems[0])


def test_a_socket_path_that_is_too_long_is_a_problem(tmp_path: Path, environ: Mapping[str, str]) -> None:
    found = configuration.read(environ, (), RunDirectory(tmp_path / ("x" * 100)))
    assert found.changes.servers == ()
    assert "is longer than 107 bytes; shorten the plugin's name" in str(found.problems[0])


def test_switched_off_plugins_are_mentioned(run: RunDirectory, environ: Mapping[str, str]) -> None:
    found = configuration.read({**environ, "KONG_PLUGINS": "off"}, (), run)
    assert found.changes.servers == ()
    assert found.notes == ("KONG_PLUGINS is off: good will not run",)


def test_methods_that_the_interface_file_lacks_are_noted(
    run: RunDirectory, environ: Mapping[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "pluginsocket.proto"
    file.write_text(extend(STOCK_FILE.read_text("utf-8")).replace("rpc Vault_Get(", "// rpc Vault_Get("))
    told = {**environ, "KONG_PYTHON_INTERFACE_FILE": str(file)}
    (note,) = configuration.read(told, (), run).notes
    assert note.startswith(f"{file} lacks 1 of our methods, kong.vault.get for one: ")
    assert "kong-python extend-interface" in note
    assert configuration.read({**told, "KONG_PYTHON_PROTOCOL": "msgpack"}, (), run).notes == ()


def test_an_invalid_interface_file_is_named(run: RunDirectory, environ: Mapping[str, str], tmp_path: Path) -> None:
    file = tmp_path / "pluginsocket.proto"
    file.write_text("")
    (note,) = configuration.read({**environ, "KONG_PYTHON_INTERFACE_FILE": str(file)}, (), run).notes
    assert note.startswith(f"{file} is not Kong's interface file: ")


def test_settings_of_a_broken_plugin_are_valid(run: RunDirectory, environ: Mapping[str, str], add_broken: None) -> None:
    found = configuration.read({**environ, "KONG_PLUGINSERVER_BAD_SOCKET": "/x"}, (), run)
    assert found.notes == ()
