"""References in a plugin's configuration: the values that the plugin gets, and Kong's rules for references."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from kong_pdk.gateway.entities import PluginConfig, Vault
from kong_pdk.gateway.gateway import Gateway
from kong_pdk.gateway.gateway_settings import Settings
from kong_pdk.gateway.nginx_logs import ErrorLog, Stream
from kong_pdk.gateway.servers.started_instances import configuration
from kong_pdk.gateway.vaults import Resolver, Vaults
from kong_pdk.schema.config_values import validate_config
from unit.gateway.servers.scripted_servers import MsgPackServer, serving

SECRET: dict[str, Any] = {"type": "string", "referenceable": True}
FIELDS: tuple[dict[str, Any], ...] = (
    {"key": SECRET},
    {"plain": {"type": "string"}},
    {"keys": {"type": "array", "elements": SECRET}},
    {"unique": {"type": "set", "elements": SECRET}},
    {"headers": {"type": "map", "keys": {"type": "string"}, "values": SECRET}},
    {"auth": {"type": "record", "fields": [{"token": SECRET}, {"user": {"type": "string"}}]}},
    {
        "hosts": {
            "type": "array",
            "elements": {"type": "record", "fields": [{"name": {"type": "string"}}, {"pw": SECRET}]},
        }
    },
    {"by_name": {"type": "map", "keys": {"type": "string"}, "values": {"type": "record", "fields": [{"pw": SECRET}]}}},
    {"nested": {"type": "array", "elements": {"type": "array", "elements": SECRET}}},
)
ONE, JSON = "{vault://env/lab-one}", "{vault://env/lab-json/user}"


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_ONE", "s3cr et")
    monkeypatch.setenv("LAB_JSON", '{"user": "anna", "n": 1, "deep": {"a": "b"}}')
    monkeypatch.setenv("SAFE_LAB_ONE", "safe")
    monkeypatch.delenv("KONG_VAULT_ENV_PREFIX", raising=False)


def resolve(config: dict[str, Any], *vaults: Vault) -> tuple[dict[str, Any], list[str]]:
    filled, errors = validate_config(FIELDS, config)
    assert not errors
    resolver = Resolver(Vaults(vaults))
    return resolver.resolve(FIELDS, filled), resolver.warnings


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"key": ONE, "plain": ONE}, {"key": "s3cr et", "plain": ONE, "$refs": {"key": ONE}}),
        ({"key": "literal"}, {"key": "literal"}),
        ({"keys": ["a", ONE, "b"]}, {"keys": ["a", "s3cr et", "b"], "$refs": {"keys": [None, ONE]}}),
        ({"keys": ["a"]}, {"keys": ["a"]}),
        ({"unique": [ONE, JSON]}, {"unique": ["s3cr et", "anna"], "$refs": {"unique": [ONE, JSON]}}),
        (
            {"headers": {"Authorization": JSON, "x": "y"}},
            {"headers": {"Authorization": "anna", "x": "y"}, "$refs": {"headers": {"Authorization": JSON}}},
        ),
        ({"auth": {"token": ONE, "user": ONE}}, {"auth": {"token": "s3cr et", "user": ONE, "$refs": {"token": ONE}}}),
        (
            {"hosts": [{"name": "a"}, {"name": "b", "pw": ONE}]},
            {"hosts": [{"name": "a"}, {"name": "b", "pw": "s3cr et", "$refs": {"pw": ONE}}]},
        ),
        ({"nested": [[ONE]]}, {"nested": [[ONE]]}),
        ({"by_name": {"a": {"pw": ONE}}}, {"by_name": {"a": {"pw": "s3cr et", "$refs": {"pw": ONE}}}}),
    ],
)
def test_fields_that_are_referenceable_hold_the_secret(config: dict[str, Any], expected: dict[str, Any]) -> None:
    # As in Kong, the result has the schema's record also without configuration; it is empty here.
    config = {"auth": {}, **config}
    resolved, warnings = resolve(config)
    assert resolved == {"auth": {}, **expected}
    assert warnings == []


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("{vault://env/lab-missing}", "no value found"),
        ("{vault://env/lab-json/pw}", "subfield pw not found in JSON secret"),
        ("{vault://env/lab-json/n}", "subfield n of the JSON secret is not a string"),
        ("{vault://env/lab-one/user}", "its value is not a JSON object, so it has no subfield user"),
        ("{vault://aws/lab-one}", "could not find vault (aws)"),
        ("{vault://my-aws/lab-one}", "the embedded gateway has no vault of the kind aws, only env"),
    ],
)
def test_a_reference_without_a_secret_is_an_empty_string_and_a_warning(reference: str, reason: str) -> None:
    vault = Vault("1", "my-aws", "aws")
    resolved, warnings = resolve({"key": reference, "keys": [ONE, reference]}, vault)
    assert (resolved["key"], resolved["keys"]) == ("", ["s3cr et", ""])
    assert resolved["$refs"] == {"key": reference, "keys": [ONE, reference]}
    assert warnings == [f"unable to resolve reference {reference} ({reason})"] * 2


@pytest.mark.parametrize(
    ("reference", "secret"),
    [
        ("{vault://my-env/lab-one}", "safe"),
        ("{vault://env/lab-one}", "s3cr et"),
        ("{vault://bare-env/lab_one}", "s3cr et"),
        ("{vault://env/one?prefix=lab_}", "s3cr et"),
        ("{vault://my-env/one?prefix=LAB_}", "s3cr et"),
    ],
)
def test_a_vault_is_named_by_its_prefix_and_gives_names_one(reference: str, secret: str) -> None:
    vaults = (Vault("1", "my-env", "env", {"prefix": "safe_"}), Vault("2", "bare-env", "env"))
    assert resolve({"key": reference}, *vaults)[0]["key"] == secret


@pytest.mark.parametrize(
    "scope", [{}, {"route_id": "r"}, {"service_id": "s", "consumer_id": "c", "instance_name": "i"}]
)
def test_fields_with_the_names_of_kong_s_keys_hold_kong_s_values_or_are_absent(scope: dict[str, str]) -> None:
    names = (
        "route_id",
        "service_id",
        "consumer_id",
        "plugin_instance_name",
        "__plugin_id",
        "__key__",
        "name",
        "enabled",
    )
    plugin = PluginConfig("p", "fieldnames", dict.fromkeys(names, "mine"), **scope)  # type: ignore[arg-type]
    sent = json.loads(configuration(plugin))
    given = {"plugin_instance_name" if name == "instance_name" else name: value for name, value in scope.items()}
    assert {name: sent.get(name) for name in names[:4]} == {name: given.get(name) for name in names[:4]}
    assert not {name for name in names[:4] if sent.get(name, "absent") is None}
    assert (sent["__plugin_id"], sent["name"], sent["enabled"]) == ("p", "mine", "mine")
    assert sent["__key__"].startswith("plugins:fieldnames:")


DECLARATIVE = """
_format_version: "3.0"
vaults: [{name: env, prefix: my-env, config: {prefix: SAFE_}}]
services:
- url: http://127.0.0.1:1
  routes:
  - paths: [/]
    plugins:
    - name: probe
      config: {key: "{vault://my-env/lab-one}", plain: "{vault://env/lab-one}", auth: {token: "{vault://env/lab-none}"}}
"""


def test_start_instance_carries_the_secrets_and_the_references(tmp_path: Path) -> None:
    """From kong.yml to the wire, with the gateway's messages about a missing secret."""
    (tmp_path / "kong.yml").write_text(DECLARATIVE)
    schema = {"name": "probe", "fields": [{"config": {"type": "record", "fields": list(FIELDS)}}]}
    described = {"Name": "probe", "Priority": 1, "Version": "1", "Phases": ["access"], "Schema": schema}
    (tmp_path / "dump.json").write_text(json.dumps([described]))
    settings = Settings.from_environment(
        {
            "KONG_PREFIX": str(tmp_path),
            "KONG_DECLARATIVE_CONFIG": str(tmp_path / "kong.yml"),
            "KONG_PROXY_LISTEN": "127.0.0.1:0",
            "KONG_STATUS_LISTEN": "off",
            "KONG_PROXY_ACCESS_LOG": "off",
            "KONG_PLUGINS": "probe",
            "KONG_PLUGINSERVER_NAMES": "p",
            "KONG_PLUGINSERVER_P_SOCKET": str(tmp_path / "s"),
            "KONG_PLUGINSERVER_P_QUERY_CMD": f"cat {tmp_path / 'dump.json'}",
        }
    )
    server = MsgPackServer(
        StartInstance=lambda started: (None, {"Name": started["Name"], "Id": 1, "Config": {}, "StartTime": 0}),
        HandleEvent=(None, {"Data": "ret", "EventId": 1}),
    )

    log = io.StringIO()

    async def run() -> None:
        gateway = Gateway(settings, ErrorLog(Stream(log)))
        async with serving(tmp_path / "s", server):
            await gateway.start()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.addresses[0].port)
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                await asyncio.wait_for(reader.read(), 20)
                writer.close()
            finally:
                await gateway.stop(0)

    asyncio.run(run())
    started = next(argument for method, argument in server.requests if method == "StartInstance")
    config = {name: value for name, value in json.loads(started["Config"]).items() if not name.startswith("__")}
    del config["route_id"]
    assert config == {
        "key": "safe",
        "plain": "{vault://env/lab-one}",
        "auth": {"token": "", "$refs": {"token": "{vault://env/lab-none}"}},
        "$refs": {"key": "{vault://my-env/lab-one}"},
    }
    warned = [line for line in log.getvalue().splitlines() if "[warn]" in line and "reference" in line]
    assert len(warned) == 1
    assert "unable to resolve reference {vault://env/lab-none} (no value found)" in warned[0]
