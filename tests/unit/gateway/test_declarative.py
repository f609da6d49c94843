"""Declarative configurations: how they are read, and Kong's messages about invalid ones, with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kong_pdk.gateway.declarative import DeclarativeError, load_declarative, load_settings, skipped_plugins
from kong_pdk.gateway.entities import Config, PluginConfig
from kong_pdk.gateway.gateway_settings import Settings
from kong_pdk.gateway.key_auth import KEY_AUTH

SCHEMAS: dict[str, Any] = {
    "key-auth": KEY_AUTH.fields,
    "py-hello": ({"message": {"type": "string", "default": "hi"}}, {"level": {"type": "integer", "required": True}}),
}
HEAD = '_format_version: "3.0"\n'


def load(folder: Path, text: str, name: str = "kong.yml") -> Config:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return load_declarative(file, SCHEMAS)


def faults(folder: Path, text: str, name: str = "kong.yml") -> list[str]:
    """Give the problems as ``LINE: MESSAGE``."""
    with pytest.raises(DeclarativeError) as caught:
        load(folder, text, name)
    return [f"{problem.line}: {problem.message}" for problem in caught.value.problems]


def scopes(config: Config) -> list[tuple[str, bool, bool, bool]]:
    def of(plugin: PluginConfig) -> tuple[str, bool, bool, bool]:
        return plugin.name, bool(plugin.service_id), bool(plugin.route_id), bool(plugin.consumer_id)

    return sorted(of(plugin) for plugin in config.plugins)


NESTED = """
_format_version: "3.0"
_transform: true
_comment: for people
_ignore: [anything]
services:
- name: s
  url: https://up.test/base
  tags: [t1]
  plugins:
  - name: py-hello
    instance_name: one
    config: {level: 1}
  routes:
  - name: r
    paths: [/a, "~/b/(?<id>\\\\d+)"]
    headers: {x-v: ["1"]}
    plugins:
    - name: key-auth
consumers:
- username: alice
  custom_id: a
  keyauth_credentials: [{key: k}]
  plugins:
  - name: py-hello
    enabled: false
    config: {level: 2}
upstreams:
- name: up.test
  targets: [{target: "127.0.0.1:1"}, {target: "localhost", weight: 5}]
plugins:
- name: py-hello
  config: {level: 3, message: m}
"""

FLAT = """
_format_version: "3.0"
plugins:
- {name: py-hello, service: s, config: {level: 1}, instance_name: one}
- {name: key-auth, route: r}
- {name: py-hello, consumer: {username: alice}, enabled: false, config: {level: 2}}
- {name: py-hello, config: {level: 3, message: m}}
keyauth_credentials: [{key: k, consumer: alice}]
routes:
- name: r
  service: {name: s}
  paths: [/a, "~/b/(?<id>\\\\d+)"]
  headers: {x-v: ["1"]}
services: [{name: s, protocol: https, host: up.test, port: 443, path: /base, tags: [t1]}]
consumers: [{username: alice, custom_id: a}]
targets: [{target: "127.0.0.1:1", upstream: up.test}, {target: localhost, weight: 5, upstream: up.test}]
upstreams: [{name: up.test}]
"""


@pytest.mark.parametrize("text", [NESTED, FLAT], ids=["nested", "flat"])
def test_nested_and_flat_entities_are_equal(tmp_path: Path, text: str) -> None:
    config = load(tmp_path, text)
    service = next(iter(config.services.values()))
    assert (service.protocol, service.host, service.port, service.path) == ("https", "up.test", 443, "/base")
    assert (service.retries, service.read_timeout, service.tags) == (5, 60000, ("t1",))
    route = next(iter(config.routes.values()))
    assert route.service_id == service.id
    assert (route.paths, route.headers) == (("/a", "~/b/(?<id>\\d+)"), {"x-v": ("1",)})
    assert scopes(config) == [
        ("key-auth", False, True, False),
        ("py-hello", False, False, False),
        ("py-hello", False, False, True),
        ("py-hello", True, False, False),
    ]
    assert config.consumers_by_username["alice"].custom_id == "a"
    assert config.credentials_by_key["k"].consumer_id == config.consumers_by_username["alice"].id
    targets = config.upstreams_by_name["up.test"].targets
    assert [(target.host, target.port, target.weight) for target in targets] == [
        ("127.0.0.1", 1, 100),
        ("localhost", 8000, 5),
    ]
    filled = {plugin.instance_name: plugin.config for plugin in config.plugins if plugin.service_id}
    assert filled == {"one": {"message": "hi", "level": 1}}


def test_json(tmp_path: Path) -> None:
    text = json.dumps({"_format_version": "3.0", "services": [{"host": "x", "name": "s"}]}, indent="\t")
    assert [service.name for service in load(tmp_path, text, "kong.json").services.values()] == ["s"]


def test_ids_are_the_same_each_time_and_sequences_are_not(tmp_path: Path) -> None:
    first, second = load(tmp_path, NESTED), load(tmp_path, NESTED)
    assert list(first.services) == list(second.services)
    assert [plugin.id for plugin in first.plugins] == [plugin.id for plugin in second.plugins]
    assert len({plugin.id for plugin in first.plugins}) == 4
    assert first.plugins[0].sequence != second.plugins[0].sequence


def test_entities_look_as_the_pdk_gives_them(tmp_path: Path) -> None:
    config = load(
        tmp_path, HEAD + "services:\n- {id: 3bbb2a3e-0000-4000-8000-000000000001, name: s, url: 'http://u:1/b'}\n"
    )
    fields = config.services["3bbb2a3e-0000-4000-8000-000000000001"].to_dict()
    assert fields.pop("created_at") == fields.pop("updated_at")
    assert fields == {
        "id": "3bbb2a3e-0000-4000-8000-000000000001",
        "ws_id": "0dc6f45b-8f8d-40d2-a504-473544ee190b",
        "name": "s",
        "host": "u",
        "port": 1,
        "path": "/b",
        "protocol": "http",
        "retries": 5,
        "connect_timeout": 60000,
        "write_timeout": 60000,
        "read_timeout": 60000,
        "enabled": True,
    }


def test_old_formats_write_regexes_without_a_mark(tmp_path: Path) -> None:
    text = '_format_version: "2.1"\nroutes:\n- paths: ["/a/\\\\d+", /plain]\n'
    assert [route.paths for route in load(tmp_path, text).routes.values()] == [("~/a/\\d+", "/plain")]


def test_settings_that_the_gateway_lacks_are_named(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        HEAD
        + """
certificates: [{cert: x, key: y}]
upstreams: [{name: u, healthchecks: {a: 1}}]
services:
- {name: g, host: h, protocol: grpcs}
routes:
- {name: r, paths: [/], protocols: [grpc]}
- {name: t, snis: [a.test], protocols: [tls_passthrough]}
vaults:
- {prefix: aws-vault, name: aws, config: {region: x}}
plugins:
- {name: py-hello, consumer_group: gold, config: {level: 1}}
""",
    )
    assert [(notice.line, notice.message) for notice in config.notices] == [
        (3, "certificates are skipped: the embedded gateway does not have them"),
        (6, "services for grpcs are not served: the embedded gateway has neither gRPC nor HTTP/2"),
        (8, "routes for grpc are not served: the embedded gateway has neither gRPC nor HTTP/2"),
        (9, "routes for tls_passthrough are not served: the embedded gateway's streams are plain TCP"),
        (9, "snis of a route are skipped: the embedded gateway does not match them"),
        (11, "vault aws-vault is skipped: the embedded gateway has no vault of the kind aws, only env"),
        (13, "plugin py-hello for consumer group gold is skipped: the embedded gateway does not have them"),
        (13, "consumer_group is for decK and Kong Enterprise: the open-source Kong refuses the field"),
    ]


def test_a_vault_of_the_environment(tmp_path: Path) -> None:
    text = HEAD + "vaults:\n- {prefix: my-env, name: env, description: d, config: {prefix: SAFE_}}\n"
    (vault,) = load(tmp_path, text).vaults
    assert (vault.prefix, vault.name, vault.config) == ("my-env", "env", {"prefix": "SAFE_"})


# A user's file: from `deck`, with entities and plugins of Kong beside the Python plugin.
EXPORTED = """_format_version: "3.0"
_transform: true
_comment: exported
_info: {defaults: {}, select_tags: [team-a]}
consumers:
- username: mobile
  keyauth_credentials: [{key: abc}]
  jwt_secrets: [{key: issuer, secret: s}]
  acls: [{group: g}]
  basicauth_credentials: [{username: u, password: p}]
  hmacauth_credentials: [{username: u, secret: s}]
  oauth2_credentials: [{name: o}]
  groups: [{name: gold}]
consumer_groups: [{name: gold, plugins: [{name: rate-limiting, config: {minute: 9}}]}]
jwt_secrets: [{consumer: mobile, key: other, secret: s}]
acls: [{consumer: mobile, group: h}]
certificates: [{id: c3f5d6c8-0000-4000-8000-000000000001, cert: x, key: y}]
ca_certificates: []
keys: []
key_sets: []
snis: []
vaults: [{prefix: my-env, name: env, config: {prefix: SAFE_}}]
upstreams: [{name: up, client_certificate: {id: c3f5d6c8-0000-4000-8000-000000000001}}]
services:
- name: s
  url: https://up
  client_certificate: {id: c3f5d6c8-0000-4000-8000-000000000001}
  filter_chains: [{filters: [{name: f}]}]
  routes:
  - name: r
    paths: [/]
    filter_chains: []
    plugins:
    - name: py-hello
      config: {level: 1}
    - {name: cors, ordering: {before: {access: [jwt]}}}
    - {name: jwt, enabled: false}
plugins:
- name: prometheus
- {name: rate-limiting, consumer_group: gold, config: {minute: 5}}
- {name: rate-limiting, config: {minute: 1}}
- name: cors
"""
SKIPPED = ("cors", "jwt", "prometheus", "rate-limiting")


def test_a_user_s_file_is_accepted_and_its_bundled_plugins_are_named_together(tmp_path: Path) -> None:
    file = tmp_path / "kong.yml"
    file.write_text(EXPORTED)
    config = load_declarative(file, {**dict.fromkeys(SKIPPED), **SCHEMAS})
    assert str(skipped_plugins(config, SKIPPED)) == (
        f"{file}: the embedded gateway skips Kong's bundled plugins cors (lines 36, 42), prometheus (line 39), "
        "rate-limiting (lines 40, 41): it has only key-auth; "
        "this is a limit of the embedded gateway, not a mistake in the file"
    )
    assert skipped_plugins(config, ()) is None
    refused = [
        notice.message.partition(" ")[0] for notice in config.notices if "the open-source Kong" in notice.message
    ]
    assert refused == ["_info", "groups", "consumer_groups", "ordering", "consumer_group"]
    assert [notice.message.partition(" ")[0] for notice in config.refused] == refused
    assert not set(config.refused).intersection(config.skipped)


def test_fields_without_effect_are_named_once_for_all_entities_of_a_kind(tmp_path: Path) -> None:
    text = HEAD + (
        "consumers:\n"
        "- {username: a, acls: [], keyauth_credentials: [{key: k}]}\n"
        "- {username: b, jwt_secrets: [{key: k}]}\n"
        "- {username: c, jwt_secrets: [{key: l}], basicauth_credentials: [{username: u}], acls: [{group: g}]}\n"
        "services: [{url: https://h, filter_chains: [{filters: []}]}]\n"
        "keys: []\n"
    )
    config = load(tmp_path, text)
    assert config.skipped == config.notices
    assert [(notice.line, notice.message) for notice in config.skipped] == [
        (
            4,
            "acls, basicauth_credentials and jwt_secrets of consumers are skipped: "
            "the embedded gateway does not have them",
        ),
        (6, "filter_chains of services are skipped: the embedded gateway does not have them"),
    ]


def test_a_date_is_a_string(tmp_path: Path) -> None:
    text = HEAD + "plugins: [{name: py-hello, config: {level: 1, message: 2026-11-23}}]\n"
    assert load(tmp_path, text).plugins[0].config["message"] == "2026-11-23"


def test_anchors_and_merges(tmp_path: Path) -> None:
    text = HEAD + "services:\n- &one {name: a, host: x, retries: 1}\n- {<<: *one, name: b}\n"
    assert [(each.name, each.retries) for each in load(tmp_path, text).services.values()] == [("a", 1), ("b", 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["None: expected a record"]),
        ("- a\n", ["1: expected a record"]),
        ("services: []\n", ["1: in _format_version: required field missing"]),
        ("_format_version: 3.0\n", ["1: in _format_version: expected a string"]),
        ('_format_version: "9"\n', ["1: in _format_version: expected one of: 1.1, 2.1, 3.0"]),
        (HEAD + "vaults:\n- {name: env}\n", ["3: in vaults 1: in prefix: required field missing"]),
        (
            HEAD + "vaults:\n- {name: env, prefix: env}\n",
            ["3: in vaults 1: in prefix: must not be one of: env, aws, azure, conjur, gcp, hcv"],
        ),
        (
            HEAD + "vaults:\n- {name: env, prefix: a-b, config: {prefix: 5}}\n",
            ["3: in vaults 1: in config: in prefix: expected a string"],
        ),
        (
            HEAD + "vaults:\n- {name: env, prefix: a-b}\n- {name: env, prefix: a-b}\n",
            ["4: in vaults 2: uniqueness violation: 'vaults' entity with prefix set to 'a-b' already declared"],
        ),
        (HEAD + "servces: []\n", ["2: in servces: unknown field"]),
        (HEAD + "services: 5\n", ["2: in services: expected an array"]),
        (HEAD + "services: [5]\n", ["2: in services 1: expected a record"]),
        (HEAD + "services:\n- name: s\n", ["3: in services 1: in host: required field missing"]),
        (HEAD + "services:\n- host: h\n  ports: 1\n", ["4: in services 1: in ports: unknown field"]),
        (
            HEAD + "services:\n- host: h\n  port: 70000\n",
            ["4: in services 1: in port: value should be between 0 and 65535"],
        ),
        (
            HEAD + "services:\n- host: h\n  protocol: ftp\n",
            [
                "4: in services 1: in protocol: expected one of: "
                "grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp"
            ],
        ),
        (HEAD + "services:\n- url: 'http://'\n", ["3: in services 1: in url: missing host in url"]),
        (
            HEAD + "services:\n- url: 'http://me:s3c/ret@host'\n",
            ["3: in services 1: in url: invalid url; write %2F for / in its user and password, and a port as a number"],
        ),
        (
            HEAD + "consumers:\n- username: a\n  keyauth_credentials: [{key: s3cret}, {key: s3cret}]\n",
            [
                "4: in consumers 1: in keyauth_credentials 2: uniqueness violation: 'keyauth_credentials' entity with "
                "key set to '****' already declared"
            ],
        ),
        (
            HEAD + "services:\n- host: h\n  routes:\n  - paths:\n    - /ok\n    - bad\n",
            ["7: in services 1: in routes 1: in paths 2: should start with: / (fixed path) or ~/ (regex path)"],
        ),
        (
            HEAD + 'routes:\n- paths: ["~/a/(b"]\n',
            ["3: in routes 1: in paths 1: invalid regex: '/a/(b' (missing ), unterminated subpattern at position 3)"],
        ),
        (
            HEAD + "routes:\n- paths: [/a/../b]\n",
            ["3: in routes 1: in paths 1: non-normalized path, consider use '/b' instead"],
        ),
        (
            HEAD + "routes:\n- name: r\n",
            [
                "3: in routes 1: must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' "
                "when 'protocols' is 'https'"
            ],
        ),
        (
            HEAD + "routes:\n- hosts: ['a*b.test']\n",
            ["3: in routes 1: in hosts 1: invalid wildcard: must be placed at leftmost or rightmost label"],
        ),
        (
            HEAD + "routes:\n- paths: [/]\n  service: nope\n",
            ["4: in routes 1: in service: invalid reference 'service: nope' (no such entry in 'services')"],
        ),
        (
            HEAD + "consumers:\n- tags: [a]\n",
            ["3: in consumers 1: at least one of these fields must be non-empty: 'custom_id', 'username'"],
        ),
        (
            HEAD + "services:\n- {name: s, host: a}\n- {name: s, host: b}\n",
            ["4: in services 2: uniqueness violation: 'services' entity with name set to 's' already declared"],
        ),
        (
            HEAD + "upstreams:\n- name: u\n  targets:\n  - target: 'a b'\n",
            ["5: in upstreams 1: in targets 1: in target: Invalid target ('a b'); not a valid hostname or ip address"],
        ),
        (
            HEAD + "plugins:\n- name: absent\n",
            ["3: in plugins 1: in name: plugin 'absent' not enabled; add it to the 'plugins' configuration property"],
        ),
        (
            HEAD + "plugins:\n- name: py-hello\n  config:\n    level: high\n    massage: x\n",
            [
                "5: in plugins 1: in config: in level: expected an integer",
                "6: in plugins 1: in config: in massage: unknown field",
            ],
        ),
        (HEAD + "plugins:\n- name: py-hello\n", ["3: in plugins 1: in config: in level: required field missing"]),
        (
            HEAD + "keyauth_credentials:\n- key: k\n",
            ["3: in keyauth_credentials 1: in consumer: required field missing"],
        ),
        ("a: b: c\n", ["1: mapping values are not allowed in this context; correct the YAML"]),
        ("a: &x [*x]\n", ["1: an alias that contains itself; correct the YAML"]),
    ],
)
def test_invalid_configurations(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert faults(tmp_path, text) == expected


ID = "c3f5d6c8-0000-4000-8000-000000000001"
CERTIFICATES = f"certificates: [{{id: {ID}, cert: x, key: y}}]\n"
NULL = "value must be null (failed conditional validation given value of field 'protocol')"
TLS_FIELDS = {
    "tls_verify": "false",
    "tls_verify_depth": "1",
    "ca_certificates": "[]",
    "client_certificate": ID,
}


@pytest.mark.parametrize("name", TLS_FIELDS)
@pytest.mark.parametrize("protocol", ["http", "https", "tcp", "tls", "udp", "grpc", "grpcs", "tls_passthrough"])
def test_a_service_has_the_fields_of_tls_only_for_https_and_tls(tmp_path: Path, protocol: str, name: str) -> None:
    """As measured on Kong 3.9.3, which refuses ``false`` and an empty list, too."""
    text = f"{HEAD}{CERTIFICATES}services:\n- host: h\n  protocol: {protocol}\n  {name}: {TLS_FIELDS[name]}\n"
    if protocol in {"https", "tls"}:
        assert len(load(tmp_path, text).services) == 1
    else:
        assert faults(tmp_path, text) == [f"6: in services 1: in {name}: {NULL}"]
    assert load(tmp_path, text.replace(TLS_FIELDS[name], "null")).services


def test_a_service_is_for_http_by_default(tmp_path: Path) -> None:
    text = HEAD + "services:\n- url: http://h\n  tls_verify: true\n- host: h\n  tls_verify: true\n"
    assert faults(tmp_path, text) == [
        f"4: in services 1: in tls_verify: {NULL}",
        f"6: in services 2: in tls_verify: {NULL}",
    ]
    with pytest.raises(DeclarativeError, match="remove it: it is for protocol https and tls, and this is http"):
        load(tmp_path, text)


@pytest.mark.parametrize("protocol", ["tcp", "tls", "udp", "grpc", "grpcs"])
def test_a_service_without_http_has_no_path(tmp_path: Path, protocol: str) -> None:
    text = f"{HEAD}services:\n- host: h\n  protocol: {protocol}\n  path: /p\n- url: {protocol}://h:1/\n"
    assert faults(tmp_path, text) == [f"5: in services 1: in path: {NULL}", f"6: in services 2: in path: {NULL}"]
    assert load(tmp_path, HEAD + f"services: [{{url: '{protocol}://h:1'}}]\n").services


@pytest.mark.parametrize("kind", ["services:\n- {name: a, url: https://h,", "upstreams:\n- {name: a,"])
@pytest.mark.parametrize("form", ["{}", "{{id: {}}}"])
def test_a_client_certificate_is_among_the_certificates(tmp_path: Path, kind: str, form: str) -> None:
    text = f"{HEAD}{kind} client_certificate: {form.format(ID)}}}\n"
    (found,) = faults(tmp_path, text)
    assert found.endswith(f"invalid reference 'client_certificate: {ID}' (no such entry in 'certificates')")
    load(tmp_path, text + CERTIFICATES)


_HTTP_ONLY = "when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'"
_WITH_SNIS = "'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'"


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ("protocols: [grpc], paths: [/]", []),
        ("protocols: [grpc], paths: [/], strip_path: false", []),
        (
            "protocols: [grpc, grpcs], paths: [/], strip_path: true",
            ["in strip_path: cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'"],
        ),
        (
            "protocols: [grpc], paths: [/], methods: []",
            ["in methods: cannot set 'methods' when 'protocols' is 'grpc' or 'grpcs'"],
        ),
        ("protocols: [grpc]", ["must set one of 'hosts', 'headers', 'paths' when 'protocols' is 'grpc'"]),
        (
            "protocols: [grpc, grpcs]",
            ["must set one of 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'grpcs'"],
        ),
        ("protocols: [grpcs], snis: [a.test]", []),
        ("protocols: [http], paths: [/], snis: [a.test]", [f"in snis: {_WITH_SNIS}"]),
        ("protocols: [http], paths: [/], snis: []", []),
        ("protocols: [http, https], snis: [a.test]", []),
        ("protocols: [tcp], snis: [a.test]", [f"in snis: {_WITH_SNIS}"]),
        (
            "paths: [/], sources: [{port: 1}], destinations: []",
            [
                "in sources: cannot set 'sources' when 'protocols' is 'http' or 'https'",
                "in destinations: cannot set 'destinations' when 'protocols' is 'http' or 'https'",
            ],
        ),
        ("protocols: [tls_passthrough], sources: [{port: 1}]", ["must set snis when 'protocols' is 'tls_passthrough'"]),
        ("protocols: [tls_passthrough], snis: [a.test], sources: [{port: 1}]", []),
        ("protocols: [tls_passthrough], snis: [a], hosts: []", [f"in hosts: cannot set 'hosts' {_HTTP_ONLY}"]),
        ("protocols: [udp], sources: [{port: 1}], strip_path: true", []),
        ("protocols: [udp], sources: [{port: 1}], headers: {}", [f"in headers: cannot set 'headers' {_HTTP_ONLY}"]),
    ],
)
def test_a_route_has_the_fields_of_its_protocols(tmp_path: Path, route: str, expected: list[str]) -> None:
    """As measured on Kong 3.9.3."""
    text = f"{HEAD}routes:\n- {{name: r, {route}}}\n"
    if expected:
        assert faults(tmp_path, text) == [f"3: in routes 1: {words}" for words in expected]
    else:
        assert len(load(tmp_path, text).routes) == 1


def test_two_plugins_of_one_name_in_one_place(tmp_path: Path) -> None:
    text = HEAD + "plugins:\n- {name: py-hello, config: {level: 1}}\n- {name: py-hello, config: {level: 2}}\n"
    found = faults(tmp_path, text)
    assert len(found) == 1
    assert "uniqueness violation: 'plugins' entity" in found[0]


def test_all_mistakes_are_listed_by_line(tmp_path: Path) -> None:
    text = (
        HEAD
        + "plugins:\n- name: absent\nservices:\n- host: h\n  port: x\n  routes:\n  - strip_path: 5\n    paths: [/]\n"
    )
    assert [fault.partition(":")[0] for fault in faults(tmp_path, text)] == ["3", "6", "8"]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DeclarativeError, match=r"kong\.yml: No such file or directory; give a file that can be read"):
        load_declarative(tmp_path / "kong.yml", SCHEMAS)


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "kong.yml").write_bytes(b"a: \xff\n")
    with pytest.raises(DeclarativeError, match="not UTF-8"):
        load_declarative(tmp_path / "kong.yml", SCHEMAS)


def test_broken_json_has_its_line(tmp_path: Path) -> None:
    assert faults(tmp_path, '{\n"a": 1\n"b": 2}', "kong.json")[0].startswith("3: ")


def test_a_configuration_in_the_settings() -> None:
    text = HEAD + "consumers: [{username: a}]\n"
    found = load_settings(Settings(declarative_config_string=text), {})
    assert list(found.consumers_by_username) == ["a"]
    assert load_settings(Settings(), {}) == Config()
    with pytest.raises(DeclarativeError, match="declarative_config_string:1: "):
        load_settings(Settings(declarative_config_string="a: b: c"), {})


def test_a_plugin_with_an_unknown_schema_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "kong.yml"
    file.write_text(HEAD + "plugins: [{name: elsewhere, config: {any: [1]}}]\n")
    assert load_declarative(file, {"elsewhere": None}).plugins[0].config == {"any": [1]}


def test_a_bundled_plugin_that_is_not_enabled_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(
        DeclarativeError, match=r"plugin 'rate-limiting' not enabled.* the word bundled, to KONG_PLUGINS"
    ):
        load(tmp_path, HEAD + "plugins: [{name: rate-limiting}]\n")
