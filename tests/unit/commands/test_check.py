"""``kong-python check``: the errors of a declarative file, in Kong's words and with the line."""

from __future__ import annotations

import pytest
from kong_pdk.cli import main

PLUGIN = """
Schema = ({"message": {"type": "string", "required": True}}, {"limit": {"type": "integer", "between": [1, 9]}})
version = "1.0.0"


class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        pass
"""
KONG = """_format_version: "3.0"
services:
- name: a
  url: http://upstream:9000
  routes:
  - name: r
    paths: [/]
plugins:
- name: my-plugin
  config: {CONFIG}
"""


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Check a file; gives the exit status, the output and the error output."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "my-plugin.py").write_text(PLUGIN)
    monkeypatch.setenv("KONG_PYTHON_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("KONG_PLUGINS", raising=False)

    def run(text):
        file = tmp_path / "kong.yml"
        file.write_text(text)
        status = main(["check", str(file), "--plugins", str(folder)])
        output = capsys.readouterr()
        return status, output.out, output.err

    run.folder = folder
    return run


def test_a_good_file_is_counted(check):
    status, out, err = check(KONG.replace("CONFIG", "message: hi, limit: 5"))
    assert (status, err) == (0, "")
    assert "is valid: 1 service, 1 route, 1 plugin" in out


def test_a_schema_in_the_main_block_is_named_beside_the_unknown_field(check):
    """The message of the unknown field alone does not help."""
    main = 'if __name__ == "__main__":\n    start_dedicated_server("my-plugin", Plugin, "1.0.0", 5, meta.SCHEMA)\n'
    text = PLUGIN.replace("Schema =", "OWN =") + main
    (check.folder / "my-plugin.py").write_text(text)
    status, _, err = check(KONG.replace("CONFIG", "message: hi"))
    assert status == 1
    warning, *others = err.splitlines()
    line = text.splitlines().index('if __name__ == "__main__":') + 2
    assert warning.startswith(f"{check.folder}/my-plugin.py:{line}: priority and Schema are set only below if __name__")
    assert "every field of a configuration is an unknown field" in warning
    assert warning.endswith("write at the top level of the module: priority = 5; Schema = meta.SCHEMA")
    assert any("in message: unknown field" in line for line in others)


def test_a_plugin_with_capitals_is_found(check):
    (check.folder / "my-plugin.py").rename(check.folder / "My-Plugin.py")
    status, _, err = check(KONG.replace("my-plugin", "My-Plugin").replace("CONFIG", "message: hi"))
    assert (status, err) == (0, "")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("message: 5", "in message: expected a string"),
        ("limit: 5", "in message: required field missing"),
        ("message: hi, limit: 10", "in limit: value should be between 1 and 9"),
        ("message: hi, mesage: ho", "in mesage: unknown field"),
    ],
)
def test_a_configuration_that_the_schema_refuses(check, config, words):
    status, out, err = check(KONG.replace("CONFIG", config))
    assert (status, out) == (1, "")
    assert words in err
    assert "kong.yml:10:" in err


def test_all_mistakes_are_listed(check):
    text = KONG.replace("CONFIG", "message: 5").replace("paths: [/]", "paths: [oops]") + "- name: nosuch\n"
    status, _, err = check(text)
    assert status == 1
    assert "kong.yml:7:" in err
    assert "should start with: /" in err
    assert "expected a string" in err
    assert "plugin 'nosuch' not enabled" in err


def test_a_bundled_plugin_is_logged_as_not_checked(check):
    status, _, err = check(KONG.replace("CONFIG", "message: hi") + "- name: rate-limiting\n  config: {minute: 5}\n")
    assert status == 0
    assert "rate-limiting is not checked" in err


def test_key_auth_is_checked(check):
    status, _, err = check(KONG.replace("CONFIG", "message: hi") + "- name: key-auth\n  config: {key_names: 5}\n")
    assert status == 1
    assert "in key_names: expected an array" in err


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "_format_version: '3.0'\nservices: 5\n", "\x00"])
def test_a_file_that_is_no_configuration_is_refused(check, text):
    status, _, err = check(text)
    assert status == 1
    assert "kong.yml" in err
    assert "Traceback" not in err


def test_a_file_that_is_not_there_is_named(check, capsys):
    assert main(["check", "/nowhere/kong.yml", "--plugins", str(check.folder)]) == 1
    assert "/nowhere/kong.yml" in capsys.readouterr().err


def test_a_wrong_setting_is_named(check, monkeypatch):
    """A wrong setting may name another folder."""
    monkeypatch.setenv("KONG_PYTHON_PLUGIN_DIR", "/x")
    status, out, err = check(KONG.replace("CONFIG", "message: hi"))
    assert (status, out) == (1, "")
    assert err == "there is no setting KONG_PYTHON_PLUGIN_DIR; did you mean KONG_PYTHON_PLUGINS_DIR?\n"


def test_a_broken_plugin_is_named(check):
    (check.folder / "broken.py").write_text("class Plugin:\n    def acces(self, kong): pass\n")
    status, _, err = check(KONG.replace("CONFIG", "message: hi"))
    assert status == 1
    assert "broken.py:2" in err


def test_a_broken_plugin_that_the_file_uses_is_named_with_its_mistake(check):
    (check.folder / "broken.py").write_text("class Plugin:\n    def acces(self, kong): pass\n")
    status, _, err = check(KONG.replace("CONFIG", "message: hi") + "- name: broken\n")
    assert status == 1
    assert "broken.py:1" in err.splitlines()[0]
    assert "kong.yml:11: in plugins 2: in name: plugin 'broken' does not load, for the reason above" in err
    assert "not enabled" not in err


def test_a_plugin_that_cannot_be_imported_is_not_enabled(check):
    (check.folder / "broken.py").write_text("import nosuch_module\n\n\nclass Plugin:\n    pass\n")
    status, _, err = check(KONG.replace("CONFIG", "message: hi") + "- name: broken\n- name: absent\n")
    assert status == 1
    assert "nosuch_module" in err.splitlines()[0]
    assert "plugin 'broken' does not load" in err
    assert "plugin 'absent' not enabled" in err
    assert "plugin 'broken' not enabled" not in err


def test_one_handler_that_kong_never_calls_is_in_the_singular(check):
    (check.folder / "early.py").write_text(EARLY.replace("    def certificate(self, kong): pass\n", ""))
    _, _, err = check(SCOPED.replace("  - name: late\n", ""))
    assert "Kong never calls its rewrite, which runs for global plugins only; apply the plugin globally, or" in err


EARLY = """
class Plugin:
    def __init__(self, config): pass
    def rewrite(self, kong): pass
    def certificate(self, kong): pass
    def access(self, kong): pass
"""
SCOPED = """_format_version: "3.0"
consumers:
- username: ada
  plugins: [{name: early}]
services:
- name: a
  url: http://upstream:9000
  plugins:
  - name: late
  - name: early
  routes:
  - paths: [/]
    id: 3bbb2a3e-0000-4000-8000-000000000001
plugins:
- {name: early, route: 3bbb2a3e-0000-4000-8000-000000000001, consumer: ada}
- {name: early, service: a, consumer: ada, enabled: false}
- {name: early, consumer_group: gold}
- name: early
"""


def test_handlers_that_kong_never_calls_are_named_with_plugin_scope_and_line(check):
    (check.folder / "early.py").write_text(EARLY)
    (check.folder / "late.py").write_text(EARLY.replace("rewrite", "response").replace("certificate", "log"))
    status, out, err = check(SCOPED)
    assert (status, out.count("is valid")) == (0, 1)
    warnings = [line.partition("kong.yml:")[2] for line in err.splitlines() if "never calls" in line]
    tail = (
        ": Kong never calls its certificate and rewrite, which run for global plugins only; "
        "apply the plugin globally, or use access"
    )
    assert warnings == [
        f"4: plugin early on consumer ada{tail}",
        f"10: plugin early on service a{tail}",
        f"15: plugin early on route 3bbb2a3e-0000-4000-8000-000000000001 and consumer ada{tail}",
        f"17: plugin early on consumer group gold{tail}",
    ]


def test_a_configuration_that_kong_accepts_is_valid(check):
    text = (
        KONG.replace("CONFIG", "message: hi")
        + """
- {name: cors, enabled: true}
- {name: rate-limiting, consumer_group: gold, config: {minute: 5}}
- {name: rate-limiting, config: {minute: 1}}
consumer_groups: [{name: gold}]
jwt_secrets: [{consumer: ada, key: k}]
vaults: [{name: env, prefix: my-env, config: {prefix: SAFE_}}]
consumers: [{username: ada, acls: [{group: g}], groups: [{name: gold}]}]
_info: {select_tags: [a]}
"""
    )
    status, out, _ = check(text)
    assert (status, out.split(": ")[-1]) == (0, "1 service, 1 route, 4 plugins\n")


@pytest.mark.parametrize(
    "more",
    [
        "_info: {select_tags: [a]}\n",
        "_workspace: default\n",
        "consumer_groups: [{name: gold}]\n",
        "consumers: [{username: ada, groups: [{name: gold}]}]\n",
        "- {name: cors, ordering: {before: {access: [my-plugin]}}}\n",
        "- {name: cors, consumer_group: gold}\n",
    ],
)
def test_a_file_of_deck_has_a_warning(check, more):
    """The open-source Kong ends at start with such a file: unknown field."""
    status, out, err = check(KONG.replace("CONFIG", "message: hi") + more)
    assert (status, "the open-source Kong refuses the field" in err) == (0, True)
    assert " is valid for decK and Kong Enterprise, and not for the open-source Kong (see above): 1 service, " in out


def test_credentials_of_the_open_source_kong_are_valid(check):
    more = "consumers: [{username: ada, acls: [{group: g}], jwt_secrets: [{key: k}]}]\n"
    status, out, _ = check(KONG.replace("CONFIG", "message: hi") + more)
    assert (status, out.partition("kong.yml")[2]) == (0, " is valid: 1 service, 1 route, 1 plugin\n")
