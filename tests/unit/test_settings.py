"""The table of the variables ``KONG_PYTHON_*``."""

from __future__ import annotations

from pathlib import Path

import pytest
from kong_pdk import settings
from kong_pdk.settings import SettingError, Variable


@pytest.mark.parametrize("variable", settings.VARIABLES, ids=lambda variable: variable.name)
def test_each_has_a_default_that_has_a_meaning(variable: Variable[object]) -> None:
    assert variable.name.startswith(settings.PREFIX)
    assert variable.read({}) == variable.read({variable.name: variable.default}) == variable.read({variable.name: " "})


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        (settings.PROTOCOL, "MsgPack", "msgpack"),
        (settings.ON_BROKEN_PLUGIN, " skip ", "skip"),
        (settings.LOG_LEVEL, " WARN", "warn"),
        (settings.DRAIN_SECONDS, "0", 0),
        (settings.DRAIN_SECONDS, "86400", 86400),
        (settings.PLUGINS_DIR, "plugins", Path.cwd() / "plugins"),
        (settings.RUN_DIR, "/a b", Path("/a b")),
        (settings.INSTALL, "Wheels", "wheels"),
        (settings.INSTALL_VARIABLES, " HDF5_DIR,,MYSQL_CFLAGS ", ("HDF5_DIR", "MYSQL_CFLAGS")),
    ],
)
def test_a_value_is_what_it_says(variable: Variable[object], text: str, value: object) -> None:
    assert variable.read({variable.name: text}) == value


@pytest.mark.parametrize(
    ("variable", "text", "kind"),
    [
        (settings.PROTOCOL, "grpc", "protobuf or msgpack"),
        (settings.ON_BROKEN_PLUGIN, "ignore", "fail or skip"),
        (settings.DRAIN_SECONDS, "-1", "a number of seconds, at most 86400"),
        (settings.DRAIN_SECONDS, "86401", "a number of seconds, at most 86400"),
        (settings.LOG_LEVEL, "warning", "auto, debug, info, notice, warn, error, crit, alert or emerg"),
        (settings.START_SECONDS, "1.5", "a number of seconds, at most 86400"),
        (settings.START_SECONDS, "\u00b2", "a number of seconds, at most 86400"),
        (settings.START_SECONDS, "9" * 5000, "a number of seconds, at most 86400"),
        (settings.RUN_DIR, "a\0b", "the path of a folder"),
    ],
)
def test_a_value_without_meaning_is_refused(variable: Variable[object], text: str, kind: str) -> None:
    with pytest.raises(SettingError) as raised:
        variable.read({variable.name: text})
    assert str(raised.value) == f"{variable.name} is {settings.shown(repr(text))}; set it to {kind}"


def test_a_message_shows_no_more_than_the_beginning_of_a_long_text() -> None:
    assert settings.shown("9" * 201) == "9" * 200 + "..."
    assert settings.shown("two\nlines") == "'two\\nlines'"
    [message] = settings.check({"KONG_PYTHON_" + "x" * 100_000: "1"})
    assert len(message) < 400


def test_a_relative_path_where_the_working_directory_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SettingError, match="set it to the path of a folder"):
        settings.PLUGINS_DIR.read({"KONG_PYTHON_PLUGINS_DIR": "plugins"})


def test_all_that_is_wrong_is_listed() -> None:
    environ = {"KONG_PYTHON_PROTOCOL": "x", "KONG_PYTHON_DRAIN_SECONDS": "soon", "KONG_PYTHON_PLUGIN_DIR": "/x"}
    assert settings.check(environ) == [
        "KONG_PYTHON_DRAIN_SECONDS is 'soon'; set it to a number of seconds, at most 86400",
        "there is no setting KONG_PYTHON_PLUGIN_DIR; did you mean KONG_PYTHON_PLUGINS_DIR?",
        "KONG_PYTHON_PROTOCOL is 'x'; set it to protobuf or msgpack",
    ]


@pytest.mark.parametrize("name", ["KONG_PYTHON_", "KONG_PYTHON_XYZZY", "KONG_PYTHON_PROTOCOL_FILE_NAME_OF_MINE"])
def test_a_name_that_resembles_none_is_to_be_unset(name: str) -> None:
    assert settings.check({name: ""}) == [
        f"there is no setting {name}; unset it; kong-python settings lists all settings"
    ]


@pytest.mark.parametrize(
    "name",
    [
        "KONG_PYTHON_SERVICE_HOST", "KONG_PYTHON_SERVICE_PORT", "KONG_PYTHON_SERVICE_PORT_PROXY_SSL",
        "KONG_PYTHON_PORT", "KONG_PYTHON_PORT_8000_TCP", "KONG_PYTHON_PORT_8000_TCP_ADDR",
        "KONG_PYTHON_PROXY_SERVICE_HOST", "KONG_PYTHON_PROXY_PORT_80_UDP_PROTO", "KONG_PYTHON_IMAGE",
    ],
)  # fmt: skip
def test_what_kubernetes_and_our_scripts_set_is_no_mistake(name: str) -> None:
    assert settings.check({name: "tcp://10.0.0.1:8000"}) == []


def test_a_port_that_no_service_has_is_a_mistake() -> None:
    assert settings.check({"KONG_PYTHON_METRICS_PORT": "9100"}) != []


def test_variables_of_others_are_not_looked_at() -> None:
    assert settings.check({"KONG_PYTHONS": "1", "PATH": "/bin", "KONG_PLUGINS": "off"}) == []


@pytest.mark.parametrize("text", ["a b", "A=1", "HDF5_*"])
def test_names_of_variables_are_names(text: str) -> None:
    with pytest.raises(SettingError, match="set it to none or names of variables, separated by commas"):
        settings.INSTALL_VARIABLES.read({"KONG_PYTHON_INSTALL_VARIABLES": text})


def test_a_password_in_a_value_is_not_said() -> None:
    [said] = settings.check({"KONG_PYTHON_METRICS_LISTEN": "http://me:se/cret@0.0.0.0"})
    assert "'http://****@0.0.0.0'" in said
    assert "cret" not in said
