"""The environment of Kong: the user's variables and the variables of the plugins."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from kong_pdk.image import environment
from kong_pdk.image.environment import Changes, ignored, lookalikes, merge, shell_script
from kong_pdk.image.kong_settings import Settings
from kong_pdk.image.run_directory import RunDirectory


def merged(environ: dict[str, str], *plugins: str) -> Changes:
    return merge(Settings(environ), plugins, RunDirectory(Path("/run/x")))


def test_without_any_setting_the_bundled_plugins_stay() -> None:
    changes = merged({}, "my-plugin")
    assert changes.variables == {
        "KONG_PLUGINS": "bundled,my-plugin",
        "KONG_PLUGINSERVER_NAMES": "my-plugin",
        "KONG_PLUGINSERVER_MY_PLUGIN_SOCKET": "/run/x/sockets/my-plugin.sock",
        "KONG_PLUGINSERVER_MY_PLUGIN_QUERY_CMD": "cat /run/x/dumps/my-plugin.json",
    }
    assert changes.servers == ("my-plugin",)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("z, bundled", "z,bundled,a,b"),
        ("b,a", "b,a"),
        ("bundled,b", "bundled,b,a"),
        ("", "a,b"),
        ("bundled,off", "bundled,off,a,b"),
        ("\n  bundled,\n  z ,\n\ta,\n", "bundled,z,a,b"),
    ],
)
def test_the_users_order_of_plugins_is_kept(given: str, expected: str) -> None:
    assert merged({"KONG_PLUGINS": given}, "a", "b").variables["KONG_PLUGINS"] == expected


def test_off_means_no_plugin_at_all() -> None:
    assert merged({"KONG_PLUGINS": "off"}, "a") == Changes({}, (), ())


def test_without_plugins_nothing_is_changed() -> None:
    assert merged({"KONG_PLUGINS": "bundled"}) == Changes({}, (), ())


def test_another_plugin_server_is_kept() -> None:
    environ = {"KONG_PLUGINSERVER_NAMES": "Go-Server", "KONG_PLUGINSERVER_GO_SERVER_START_CMD": "/go"}
    changes = merged(environ, "a")
    assert changes.variables["KONG_PLUGINSERVER_NAMES"] == "Go-Server,a"
    assert not any("GO_SERVER" in name for name in changes.variables)


GO = {"KONG_PLUGINSERVER_GO_QUERY_CMD": "/opt/go -dump", "KONG_PLUGINSERVER_NAMES": "go"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"KONG_PLUGINSERVER_PY-HELLO_SOCKET": "/x"},
            "Kong ignores KONG_PLUGINSERVER_PY-HELLO_SOCKET: write KONG_PLUGINSERVER_PY_HELLO_SOCKET",
        ),
        (
            {"KONG_PLUGINSERVER_py_hello_START_CMD": "/x"},
            "Kong ignores KONG_PLUGINSERVER_py_hello_START_CMD: write KONG_PLUGINSERVER_PY_HELLO_START_CMD",
        ),
        (
            {"kong_pluginserver_py-hello_query_cmd": "x", "KONG_PLUGINSERVER_PY_HELLO_QUERY_CMD": "y"},
            "Kong ignores kong_pluginserver_py-hello_query_cmd: write KONG_PLUGINSERVER_PY_HELLO_QUERY_CMD, "
            "which is set, too",
        ),
        (
            {"KONG_PLUGINSERVER-NAMES": "go"},
            "Kong ignores KONG_PLUGINSERVER-NAMES: write KONG_PLUGINSERVER_NAMES",
        ),
        (
            {"KONG_PLUGINSERVER_RUST_HEADER_SOCKET": "/x"},
            "Kong ignores KONG_PLUGINSERVER_RUST_HEADER_SOCKET: KONG_PLUGINSERVER_NAMES has no rust-header; add it",
        ),
        (
            {"KONG_PLUGINSERVER_PY_HELO_SOCKET": "/x"},
            "Kong ignores KONG_PLUGINSERVER_PY_HELO_SOCKET: KONG_PLUGINSERVER_NAMES has no py-helo; add it; did "
            "you mean KONG_PLUGINSERVER_PY_HELLO_SOCKET?",
        ),
        (
            {**GO, "KONG_PLUGINSERVER_GO_STARTCMD": "/x"},
            "Kong ignores KONG_PLUGINSERVER_GO_STARTCMD: did you mean KONG_PLUGINSERVER_GO_START_CMD?",
        ),
        (
            {**GO, "KONG_PLUGINSERVER_GO_SOCKET_FILE": "/x"},
            "Kong ignores KONG_PLUGINSERVER_GO_SOCKET_FILE: did you mean KONG_PLUGINSERVER_GO_SOCKET?",
        ),
        (
            {"KONG_PLUGINSERVER_NAME": "go"},
            "Kong ignores KONG_PLUGINSERVER_NAME: did you mean KONG_PLUGINSERVER_NAMES?",
        ),
        (
            {"KONG_PLUGINSERVER_NAMES": "go-server, py-hello", "KONG_PLUGINSERVER_GO_SERVER_SOCKET": "/x"},
            "KONG_PLUGINSERVER_NAMES has go-server, which is no plugin of the folder, and Kong cannot ask that server "
            "for its plugins: set KONG_PLUGINSERVER_GO_SERVER_QUERY_CMD",
        ),
        (
            {"KONG_PLUGINSERVER_NAMES": "go-server, py-hello"},
            "KONG_PLUGINSERVER_NAMES has go-server, which is no plugin of the folder, and Kong cannot ask that server "
            "for its plugins: set KONG_PLUGINSERVER_GO_SERVER_QUERY_CMD, or remove the name",
        ),
        (
            {"KONG_PLUGINSERVER_MY-OTHER_SOCKET": "/x"},
            "Kong ignores KONG_PLUGINSERVER_MY-OTHER_SOCKET: KONG_PLUGINSERVER_NAMES has no my-other; add it, and "
            "write KONG_PLUGINSERVER_MY_OTHER_SOCKET and set KONG_PLUGINSERVER_MY_OTHER_QUERY_CMD",
        ),
        (
            {"KONG_PLUGINSERVER_MY-OTHER_QUERY_CMD": "x"},
            "Kong ignores KONG_PLUGINSERVER_MY-OTHER_QUERY_CMD: KONG_PLUGINSERVER_NAMES has no my-other; add it, and "
            "write KONG_PLUGINSERVER_MY_OTHER_QUERY_CMD",
        ),
        (
            {"KONG_PLUGINSERVER_NAMES": "my-other", "KONG_PLUGINSERVER_MY-OTHER_QUERY_CMD": "x"},
            "Kong ignores KONG_PLUGINSERVER_MY-OTHER_QUERY_CMD: write KONG_PLUGINSERVER_MY_OTHER_QUERY_CMD",
        ),
        (
            {**GO, "KONG_PLUGINSERVER_NAMES": "go; py-hello"},
            'KONG_PLUGINSERVER_NAMES has "go; py-hello": separate names by commas alone, and write no quotes: '
            "KONG_PLUGINSERVER_NAMES=go,py-hello",
        ),
        (
            {**GO, "KONG_PLUGINSERVER_NAMES": "py-hello go"},
            'KONG_PLUGINSERVER_NAMES has "py-hello go": separate names by commas alone, and write no quotes: '
            "KONG_PLUGINSERVER_NAMES=py-hello,go",
        ),
        ({"KONG_PLUGIN": "x"}, "Kong ignores KONG_PLUGIN: did you mean KONG_PLUGINS?"),
        ({"kong_plugins": "x"}, "Kong ignores kong_plugins: did you mean KONG_PLUGINS?"),
        ({"KONG_PLUGIN_FILE": "/x"}, "Kong ignores KONG_PLUGIN_FILE: did you mean KONG_PLUGINS_FILE?"),
        (
            {"KONG_PLUGIN_SERVER_NAMES": "go"},
            "Kong ignores KONG_PLUGIN_SERVER_NAMES: did you mean KONG_PLUGINSERVER_NAMES?",
        ),
    ],
)
def test_variables_that_kong_ignores_are_named(environ: dict[str, str], expected: str) -> None:
    assert ignored(Settings(environ), ["py-hello"]) == [expected]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {**GO, "KONG_PLUGINSERVER_GO_SOCKET": "/x", "KONG_PLUGINSERVER_GO_START_CMD": "/opt/go"},
        {"KONG_PLUGINSERVER_NAMES": " Go-Server ,\n py-hello", "KONG_PLUGINSERVER_GO_SERVER_QUERY_CMD": "x"},
        {"KONG_PLUGINSERVER_PY_HELLO_SOCKET": "/x"},
        {"KONG_PLUGINSERVER_OTHER_SOCKET": ""},
        {"KONG_PLUGINS": "bundled", "KONG_PLUGIN": "", "KONG_PLUGINS_COLOUR": "red"},
        {"KONG_PLUGIN_PORT": "tcp://10.0.0.1:80", "KONG_PLUGINS_SERVICE_HOST": "10.0.0.1"},
        {"KONG_PLUGINSERVER_SERVICE_HOST": "10.0.0.1", "KONG_PLUGINSERVER_PORT": "tcp://10.0.0.1:80"},
        {"KONG_PLUGINSERVER_GO_PORT_80_TCP_ADDR": "10.0.0.1", "KONG_PLUGINSERVER_SERVICE_PORT_HTTP": "80"},
    ],
)
def test_variables_of_named_servers_are_valid(environ: dict[str, str]) -> None:
    assert ignored(Settings(environ), ["py-hello"]) == []


@pytest.mark.parametrize("program", ["go", "query_go"])
def test_a_server_in_kongs_default_place_needs_no_query_command(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "_PROGRAMS", tmp_path)
    assert len(ignored(Settings({"KONG_PLUGINSERVER_NAMES": "Go"}), [])) == 1
    (tmp_path / program).touch()
    assert ignored(Settings({"KONG_PLUGINSERVER_NAMES": "Go"}), []) == []


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [
        (
            "pluginserver_py-hello_socket",
            None,  # Kong reads a dash as an underscore there
        ),
        (
            "PLUGINSERVER_PY_HELLO_SOCKET",
            "kong.conf: Kong ignores PLUGINSERVER_PY_HELLO_SOCKET: write pluginserver_py_hello_socket",
        ),
        (
            "pluginserver_go-header_socket",
            "kong.conf: Kong ignores pluginserver_go-header_socket: pluginserver_names has no go-header; add it",
        ),
        ("pluginserver_py_hello_socket", None),
        ("prefix", None),
    ],
)
def test_kong_conf_is_read_too(spelled: str, expected: str | None) -> None:
    found = ignored(Settings({}, {spelled: "/x", "pluginserver_names": "py-hello"}), ["py-hello"])
    assert found == ([expected] if expected else [])


@pytest.mark.parametrize("option", ["pluginserver_py-hello_socket", "pluginserver_py_hello_start_cmd"])
def test_a_server_of_kong_conf_is_left_to_the_user(option: str) -> None:
    changes = merge(Settings({}, {option: "/x"}), ["py-hello"], RunDirectory(Path("/run/x")))
    assert changes.servers == ()
    assert "KONG_PLUGINSERVER_PY_HELLO_SOCKET" not in changes.variables


@pytest.mark.parametrize("name", ["my_plugin", "MY-PLUGIN"])
def test_a_name_with_other_capitals_is_not_added_twice(name: str) -> None:
    changes = merged({"KONG_PLUGINSERVER_NAMES": name}, "my-plugin")
    assert changes.variables["KONG_PLUGINSERVER_NAMES"] == name


def test_a_plugin_keeps_its_capitals_and_its_server_has_none() -> None:
    """Kong makes the names in pluginserver_names lower-case, and no others."""
    changes = merged({}, "AI-Powered", "authChecker")
    assert changes.variables == {
        "KONG_PLUGINS": "bundled,AI-Powered,authChecker",
        "KONG_PLUGINSERVER_NAMES": "ai-powered,authchecker",
        "KONG_PLUGINSERVER_AI_POWERED_SOCKET": "/run/x/sockets/AI-Powered.sock",
        "KONG_PLUGINSERVER_AI_POWERED_QUERY_CMD": "cat /run/x/dumps/AI-Powered.json",
        "KONG_PLUGINSERVER_AUTHCHECKER_SOCKET": "/run/x/sockets/authChecker.sock",
        "KONG_PLUGINSERVER_AUTHCHECKER_QUERY_CMD": "cat /run/x/dumps/authChecker.json",
    }
    assert changes.servers == ("AI-Powered", "authChecker")


@pytest.mark.parametrize(
    ("given", "expected_texts"),
    [
        ("bundled,ai-powered", ["ai-powered"]),
        ("AI_Powered,bundled,ai-powered", ["AI_Powered", "ai-powered"]),
        ("bundled,AI-Powered,other", []),
        ("bundled,key-auth", []),
        ("", []),
    ],
)
def test_a_name_in_the_users_list_that_kong_would_not_find_is_named(given: str, expected_texts: list[str]) -> None:
    found = lookalikes(Settings({"KONG_PLUGINS": given}), ["AI-Powered", "Key_Auth"])
    assert [text.split('"')[1] for text in found] == expected_texts
    assert all('the plugin is "AI-Powered"' in text for text in found)


@pytest.mark.parametrize("merging", [False, True])
@pytest.mark.parametrize(
    ("given", "expected_texts"),
    [
        ("bundled,py-helo", ['has "py-helo", and neither the folder nor Kong has', 'did you mean "py-hello"?']),
        ("bundled,pyhello", ['did you mean "py-hello"?']),
        ("Py_Helo", ['did you mean "py-hello"?']),
        (
            "bundled;py-hello",
            ['has "bundled;py-hello": separate names by commas alone', "KONG_PLUGINS=bundled,py-hello"],
        ),
        ("bundled py-hello", ["KONG_PLUGINS=bundled,py-hello"]),
        ('"bundled,py-hello"', ["write no quotes: KONG_PLUGINS=bundled,py-hello"]),
        ("bundled,tigre", []),
        ("bundled,key-auth,acl", []),
        ("py-hell0", []),
        ("py-hallo", []),
    ],
)
def test_a_name_that_is_like_a_plugins_is_named(
    given: str, expected_texts: list[str], merging: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """py-hell0 is the plugin of another server; py-hallo is one in Lua."""
    handler = tmp_path / "kong" / "plugins" / "py-hallo" / "handler.lua"
    handler.parent.mkdir(parents=True)
    handler.touch()
    environ = {
        "KONG_PLUGINS": given,
        "KONG_PLUGINSERVER_NAMES": "py-hell0",
        "KONG_LUA_PACKAGE_PATH": f"/nowhere/?.lua;{tmp_path}/?.lua;;",
    }
    if merging:  # as the entrypoint has done before `kong-python env`
        environ = merged(environ, "py-hello").apply(environ)
    found = lookalikes(Settings(environ), ["py-hello"])
    assert len(found) == (1 if expected_texts else 0)
    assert all(part in text for part in expected_texts for text in found)


def test_a_server_that_the_user_starts_is_left_to_the_user() -> None:
    changes = merged({"KONG_PLUGINSERVER_A_START_CMD": "/a.py"}, "a", "b")
    assert changes.servers == ("b",)
    assert "KONG_PLUGINSERVER_A_SOCKET" not in changes.variables
    assert changes.variables["KONG_PLUGINSERVER_A_QUERY_CMD"] == "cat /run/x/dumps/a.json"


def test_a_socket_of_the_user_is_left_alone() -> None:
    changes = merged({"KONG_PLUGINSERVER_A_SOCKET": "/a.socket"}, "a")
    assert changes.servers == ()
    assert "KONG_PLUGINSERVER_A_SOCKET" not in changes.variables


def test_a_query_command_of_the_user_stays() -> None:
    changes = merged({"KONG_PLUGINSERVER_A_QUERY_CMD": "mine"}, "a")
    assert changes.servers == ("a",)
    assert changes.variables["KONG_PLUGINSERVER_A_QUERY_CMD"] == "mine"


def test_a_control_plane_knows_the_plugins_and_runs_no_server() -> None:
    changes = merged({"KONG_ROLE": "control_plane", "KONG_PLUGINSERVER_B_START_CMD": "/b.py"}, "a", "b")
    assert (changes.servers, changes.schema_only) == ((), ("a",))
    assert changes.variables == merged({"KONG_PLUGINSERVER_B_START_CMD": "/b.py"}, "a", "b").variables


@pytest.mark.parametrize("role", ["data_plane", "traditional", ""])
def test_every_other_role_runs_them(role: str) -> None:
    changes = merged({"KONG_ROLE": role}, "a")
    assert (changes.servers, changes.schema_only) == (("a",), ())


def test_merging_twice_changes_nothing() -> None:
    """`docker run IMAGE kong-python env` sees an environment that the entrypoint has changed already."""
    first = merged({"KONG_PLUGINS": "x"}, "a", "b")
    assert merged(first.apply({"KONG_PLUGINS": "x"}), "a", "b") == first


def test_a_file_variable_goes_when_its_content_is_merged(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine\n")
    environ = {"KONG_PLUGINS_FILE": str(tmp_path / "file"), "HOME": "/"}
    changes = merged(environ, "a")
    assert changes.apply(environ) == {"HOME": "/", **changes.variables}
    assert changes.variables["KONG_PLUGINS"] == "mine,a"


def test_a_path_with_odd_characters_is_quoted_for_the_shell(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "it's; a $dir")
    run.dumps.mkdir(parents=True)
    run.dump("a").write_text("[]")
    query = merge(Settings({}), ["a"], run).variables["KONG_PLUGINSERVER_A_QUERY_CMD"]
    assert subprocess.run(query, shell=True, capture_output=True, check=True).stdout == b"[]"


def sourced(script: str, environ: dict[str, str], name: str) -> str:
    command = f'{script}\nprintf %s "${{{name}-unset}}"'
    done = subprocess.run(
        ["/bin/sh", "-ec", command], env={"PATH": os.environ["PATH"], **environ}, capture_output=True, check=True
    )
    return done.stdout.decode()


def test_the_script_repeats_the_changes_in_the_environment_of_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("it's\n")
    environ = {"KONG_PLUGINS_FILE": str(tmp_path / "file"), "KONG_PLUGINSERVER_NAMES": "o'k"}
    changes = merged(environ, "a")
    script = shell_script(environ, changes)
    for name, value in changes.variables.items():
        assert sourced(script, environ, name) == value
    assert sourced(script, environ, "KONG_PLUGINS_FILE") == "unset"


def test_the_script_keeps_variables_of_the_command() -> None:
    environ = {"KONG_PLUGINS": "x"}
    script = shell_script(environ, merged(environ, "a"))
    assert sourced(script, {"KONG_PLUGINS": "only,this"}, "KONG_PLUGINS") == "only,this"
    assert sourced(script, {"KONG_PLUGINSERVER_NAMES": ""}, "KONG_PLUGINSERVER_NAMES") == ""


def test_the_script_changes_nothing_twice() -> None:
    changes = merged({}, "a")
    script = shell_script({}, changes)
    assert sourced(f"{script}\n{script}", {}, "KONG_PLUGINS") == "bundled,a"
    assert shlex.split(changes.variables["KONG_PLUGINSERVER_A_QUERY_CMD"]) == ["cat", "/run/x/dumps/a.json"]


def test_a_log_level_of_kong_conf_reaches_the_plugin_servers() -> None:
    changes = merge(Settings({}, {"log_level": "debug"}), ["my-plugin"], RunDirectory(Path("/run/x")))
    assert changes.variables["KONG_PYTHON_LOG_LEVEL"] == "debug"
