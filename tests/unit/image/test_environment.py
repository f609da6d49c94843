"""Merging what was found into what the user set."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from kong_pdk.image.environment import Changes, lookalikes, merge, shell_script
from kong_pdk.image.run_directory import RunDirectory
from kong_pdk.image.settings import Settings


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


@pytest.mark.parametrize("name", ["my_plugin", "MY-PLUGIN"])
def test_a_name_that_kong_takes_for_the_same_is_not_added_twice(name: str) -> None:
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
    ("given", "said"),
    [
        ("bundled,ai-powered", ["ai-powered"]),
        ("AI_Powered,bundled,ai-powered", ["AI_Powered", "ai-powered"]),
        ("bundled,AI-Powered,other", []),
        ("bundled,key-auth", []),
        ("", []),
    ],
)
def test_a_name_in_the_users_list_that_kong_would_not_find_is_named(given: str, said: list[str]) -> None:
    found = lookalikes(Settings({"KONG_PLUGINS": given}), ["AI-Powered", "Key_Auth"])
    assert [text.split('"')[1] for text in found] == said
    assert all('the plugin is "AI-Powered"' in text for text in found)


def test_a_server_that_the_user_starts_is_the_users() -> None:
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


def test_merging_into_what_was_merged_changes_nothing() -> None:
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


def test_the_script_keeps_what_was_set_on_purpose() -> None:
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
