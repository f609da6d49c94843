"""The output of a query command decides whether the gateway starts, and with which plugin."""

from __future__ import annotations

import asyncio
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from kong_pdk.gateway.gateway_settings import PluginServer, Settings
from kong_pdk.gateway.nginx_logs import ErrorLog, Stream
from kong_pdk.gateway.servers import PluginServerError, PluginServers
from kong_pdk.gateway.servers import plugin_query as module
from kong_pdk.gateway.servers.plugin_query import query, read_dump
from waiting import async_wait_for

SERVER = PluginServer("srv", Path("srv.sock"), None, "query")
SCHEMA = {"name": "a", "fields": [{"config": {"type": "record", "fields": [{"note": {"type": "string"}}]}}]}


def plugin(**changes: Any) -> dict[str, Any]:
    return {"Name": "a", "Version": "1.2.3", "Priority": 5, "Phases": ["log"], "Schema": SCHEMA, **changes}


def dumped(**changes: Any) -> bytes:
    return json.dumps([plugin(**changes)]).encode()


def log() -> tuple[ErrorLog, io.StringIO]:
    written = io.StringIO()
    return ErrorLog(Stream(written), "debug"), written


def test_list_is_msgpack() -> None:
    found = read_dump(SERVER, dumped())
    assert found is not None
    assert (found.name, found.priority, found.version, found.phases) == ("a", 5, "1.2.3", ("log",))
    assert (found.protocol, found.fields) == ("MsgPack:1", ({"note": {"type": "string"}},))


def test_object_has_its_protocol_and_only_the_first_plugin_counts() -> None:
    dump = {"Protocol": "ProtoBuf:1", "Plugins": [plugin(Name="one"), plugin(Name="two")]}
    found = read_dump(SERVER, json.dumps(dump).encode())
    assert found is not None
    assert (found.name, found.protocol) == ("one", "ProtoBuf:1")


@pytest.mark.parametrize("version", ["1.2.3-rc1", "1.2", "1", "1.2.3"])
def test_version_may_have_up_to_three_numbers_and_a_suffix(version: str) -> None:
    found = read_dump(SERVER, dumped(Version=version))
    assert found is not None
    assert len(found.version.split(".")) == 3


@pytest.mark.parametrize("version", [1.2, "1.2.3.4", "", "x", None])
def test_other_versions_are_refused(version: object) -> None:
    with pytest.raises(PluginServerError, match=r'VERSION field does not follow the "x\.y\.z" format'):
        read_dump(SERVER, dumped(Version=version))


@pytest.mark.parametrize("priority", [1.5, "7", None, True])
def test_priority_must_be_integral(priority: object) -> None:
    with pytest.raises(PluginServerError, match="PRIORITY field is not a valid integer number"):
        read_dump(SERVER, dumped(Priority=priority))


def test_integral_float_is_a_priority() -> None:
    found = read_dump(SERVER, dumped(Priority=7.0))
    assert found is not None
    assert found.priority == 7


def test_absent_priority_is_not_installed() -> None:
    dump = plugin()
    del dump["Priority"]
    assert read_dump(SERVER, json.dumps([dump]).encode()) is None


@pytest.mark.parametrize("output", [b"", b"loading...\n[]", b'{"Plugins": [', b"\xff"])
def test_output_that_is_not_json_is_refused_in_kongs_words(output: bytes) -> None:
    with pytest.raises(PluginServerError, match=r"failed decoding plugin info: \[srv\]"):
        read_dump(SERVER, output)


@pytest.mark.parametrize("dump", [[], {}, {"Plugins": []}, 5, "x", [5], [{"Name": "a"}], [{"Name": 3}]])
def test_dump_without_a_plugin_is_refused(dump: object) -> None:
    with pytest.raises(PluginServerError, match=r"\[srv\]"):
        read_dump(SERVER, json.dumps(dump).encode())


def test_unknown_protocol_is_refused() -> None:
    with pytest.raises(PluginServerError, match="unknown protocol implementation: Carrier:1"):
        read_dump(SERVER, json.dumps({"Protocol": "Carrier:1", "Plugins": [plugin()]}).encode())


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {},
        {"fields": []},
        {"fields": [{"config": {"fields": [{"a": {}, "b": {}}]}}]},
        {"fields": [{"config": {"fields": [{"a": {"type": "strng"}}]}}]},
    ],
)
def test_invalid_schema_is_a_violation(schema: object) -> None:
    with pytest.raises(PluginServerError, match="schema violation"):
        read_dump(SERVER, dumped(Schema=schema))


def test_command_runs_in_a_shell_with_the_environment_given() -> None:
    errors, written = log()
    command = "echo to-the-log >&2; printf '%s' \"$DUMP\"; exit 3"
    server = PluginServer("srv", Path("srv.sock"), None, command)
    environment = {"DUMP": dumped().decode(), "PATH": "/usr/bin:/bin"}
    found = asyncio.run(query(server, environment, errors))
    assert found is not None
    assert found.name == "a"
    assert "to-the-log" in written.getvalue()


def test_command_that_exceeds_the_time_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUERY_TIMEOUT", 0.2)
    server = PluginServer("srv", Path("srv.sock"), None, "tail -f /dev/null | cat")
    with pytest.raises(PluginServerError, match="must print JSON and exit"):
        asyncio.run(query(server, {"PATH": "/usr/bin:/bin"}, log()[0]))


def test_command_is_killed_when_the_gateway_is_told_to_stop(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    server = PluginServer("srv", Path("srv.sock"), None, f"echo $$ >{pid}; tail -f /dev/null")

    async def run() -> None:
        asking = asyncio.create_task(query(server, {"PATH": "/usr/bin:/bin"}, log()[0]))
        await async_wait_for(lambda: pid.exists() and pid.read_text())
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(run())
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def load(settings: Settings) -> tuple[PluginServers, str]:
    errors, written = log()
    environment = {"PATH": "/usr/bin:/bin"}
    return asyncio.run(PluginServers.load(settings, environment, errors, ("key-auth",))), written.getvalue()


def server(name: str, *dumps: dict[str, Any]) -> PluginServer:
    return PluginServer(name, Path(f"{name}.sock"), None, f"printf '%s' '{json.dumps(list(dumps))}'")


def test_plugin_that_no_server_has_is_not_installed() -> None:
    settings = Settings(plugins=("key-auth", "aa"), pluginservers=(server("srv", plugin()),))
    with pytest.raises(PluginServerError) as raised:
        load(settings)
    first, second = str(raised.value).split("\n")
    assert first == "error loading plugin schemas: on plugin 'aa': aa plugin is enabled but not installed;"
    assert second == "no plugin found"


def test_of_two_plugins_of_one_name_the_last_wins() -> None:
    servers = (server("one", plugin(Priority=1)), server("two", plugin(Priority=2)))
    loaded, written = load(Settings(plugins=("a",), pluginservers=servers))
    assert loaded.plugins["a"].priority == 2
    assert "start_command undefined for pluginserver one; assuming external process management" in written


def test_without_external_plugins_no_command_runs() -> None:
    broken = PluginServer("srv", Path("srv.sock"), None, "echo no json")
    loaded, _ = load(Settings(plugins=("key-auth",), pluginservers=(broken,)))
    assert loaded.plugins == {}
