"""``kong-python env`` and ``kong-python plugins``."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from kong_pdk import cli
from kong_pdk.image import report
from kong_pdk.image.run_directory import RunDirectory
from kong_pdk.wire.msgpack_codec import encode_response

Serve = Callable[[Path, Callable[[socket.socket, bytes], None]], None]


@pytest.fixture(autouse=True)
def _in_a_container(environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


def healthy(connection: socket.socket, data: bytes) -> None:
    connection.sendall(encode_response(1, None, {}))


def test_env_prints_lines_for_a_shell(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.environment_main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "KONG_PLUGINS=bundled,good",
        "KONG_PLUGINSERVER_NAMES=good",
        f"KONG_PLUGINSERVER_GOOD_SOCKET={run.socket('good')}",
        f"KONG_PLUGINSERVER_GOOD_QUERY_CMD='cat {run.dump('good')}'",
    ]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_env_prints_no_password(
    options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A query command of the user may have one, by its form or as a copy of a secret of the environment."""
    (tmp_path / "password").write_text("pass-of-a-file\n")
    monkeypatch.setenv("KONG_PG_PASSWORD_FILE", str(tmp_path / "password"))
    monkeypatch.setenv("KONG_PLUGINSERVER_NAMES", "go")
    command = "/opt/go --token=s3cret -db redis://me:pa/ss@db -x pass-of-a-file -dump"
    monkeypatch.setenv("KONG_PLUGINSERVER_GOOD_QUERY_CMD", command)
    assert cli.main(["env", *options]) == 0
    out = capsys.readouterr().out
    assert "/opt/go --token=**** -db redis://****@db -x **** -dump" in out


def test_env_names_variables_that_kong_ignores(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KONG_PLUGINSERVER_GO-OD_SOCKET", "/x")
    assert report.environment_main([]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("kong-python: Kong ignores KONG_PLUGINSERVER_GO-OD_SOCKET: ")
    assert "KONG_PLUGINSERVER_GOOD_SOCKET=" in printed.out


def test_env_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.environment_main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out)["KONG_PLUGINS"] == "bundled,good"


@pytest.mark.usefixtures("add_broken")
def test_plugins_shows_a_table_with_broken_plugins(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.plugins_main([]) == 78
    printed = capsys.readouterr()
    head, *rows = printed.out.splitlines()
    assert head.split() == ["name", "version", "priority", "phases", "mode", "file", "state"]
    assert rows[0].split() == ["good", "1.2.3", "42", "access", "loop", str(folder / "good.py"), "ok"]
    assert rows[1].split()[:3] == ["bad", f"{folder / 'bad.py'}:2", "broken:"]
    assert "bad.py:2" in printed.err


def test_ignored_parts_of_a_plugin_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "good.py").write_text(
        "class Plugin:\n    def __init__(self, config): pass\n    def access(self, kong): pass\n"
        'if __name__ == "__main__":\n    start_dedicated_server("good", Plugin, "2.0.0", 1000)\n'
    )
    (folder / "ab_test.py").write_text("class Plugin:\n    def access(self, kong): pass\n")
    for command in (report.plugins_main, report.environment_main):
        assert command([]) == 0
        lines = capsys.readouterr().err.splitlines()
        assert [line.split(" ")[1] for line in lines] == [f"{folder}/ab_test.py:1:", f"{folder}/good.py:5:"]
        assert "write at the top level of the module: version = '2.0.0'; priority = 1000" in lines[1]


def test_plugins_shows_which_servers_run(run: RunDirectory, serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve(run.socket("good"), healthy)
    assert report.plugins_main(["--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["phases"], row["state"]) == ("good", ["access"], "running")


@pytest.mark.parametrize(
    ("variable", "value", "state"),
    [
        ("KONG_PLUGINS", "off", "switched off"),
        ("KONG_PLUGINSERVER_GOOD_START_CMD", "/x", "served by you"),
        ("KONG_ROLE", "control_plane", "schema only"),
    ],
)
def test_plugins_shows_the_settings_of_the_user(
    variable: str, value: str, state: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    assert report.plugins_main([]) == 0
    assert capsys.readouterr().out.rstrip().endswith(state)


def test_an_empty_folder_has_no_plugins(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "good.py").unlink()
    assert report.plugins_main([]) == 0
    assert capsys.readouterr().out == "no plugins\n"


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("KONG_PYTHON_PROTOCOL", "x")
    assert report.environment_main([]) == 78
    assert capsys.readouterr().err == "kong-python: KONG_PYTHON_PROTOCOL is 'x'; set it to protobuf or msgpack\n"


@pytest.mark.usefixtures("add_broken")
def test_an_unknown_setting_is_named_below_the_plugins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KONG_PYTHON_NOSUCH", "1")
    assert report.plugins_main([]) == 78
    printed = capsys.readouterr()
    assert printed.out.splitlines()[1].startswith("good")
    assert "kong-python: there is no setting KONG_PYTHON_NOSUCH" in printed.err


def test_an_unknown_setting_alone_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KONG_PYTHON_NOSUCH", "1")
    assert report.environment_main([]) == 78
    assert capsys.readouterr().err.count("\n") == 1
