"""The user's settings, from the environment, from files that it names, and from kong.conf."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from kong_pdk.exit_status import StartError
from kong_pdk.image import configuration
from kong_pdk.image.kong_settings import Settings, option_of, read_conf
from kong_pdk.image.run_directory import RunDirectory
from kong_pdk.settings import Address


def test_the_environment_wins_over_kong_conf() -> None:
    settings = Settings({"KONG_PLUGINS": "a"}, {"plugins": "b", "pluginserver_names": "c"})
    assert settings.get("plugins") == "a"
    assert settings.get("pluginserver_names") == "c"
    assert settings.get("pluginserver_c_socket") is None


def test_a_file_gives_the_value_and_its_variable_is_known(tmp_path: Path) -> None:
    (tmp_path / "plugins").write_text("bundled,mine\n")
    settings = Settings({"KONG_PLUGINS_FILE": str(tmp_path / "plugins"), "KONG_PLUGINS": ""})
    assert settings.get("plugins") == "bundled,mine"
    assert settings.file_variables == ("KONG_PLUGINS_FILE",)


def test_a_value_and_its_file_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="KONG_PLUGINS and KONG_PLUGINS_FILE are both set"):
        Settings({"KONG_PLUGINS_FILE": str(tmp_path), "KONG_PLUGINS": "a"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"KONG_PLUGINSERVER_NAMES_FILE: .*/gone: No such file"):
        Settings({"KONG_PLUGINSERVER_NAMES_FILE": str(tmp_path / "gone")})


@pytest.mark.parametrize(
    ("environ", "conf", "expected"),
    [
        ({}, {}, False),
        ({"KONG_ROLE": "control_plane"}, {}, True),
        ({"KONG_ROLE": " control_plane "}, {}, True),
        ({}, {"role": "control_plane"}, True),
        ({"KONG_ROLE": "data_plane"}, {"role": "control_plane"}, False),
        ({"KONG_ROLE": "traditional"}, {}, False),
    ],
)
def test_the_role(environ: dict[str, str], conf: dict[str, str], expected: bool) -> None:
    assert Settings(environ, conf).control_plane is expected


def test_the_role_from_a_file_is_left_for_kong_to_read(tmp_path: Path) -> None:
    (tmp_path / "role").write_text("control_plane\n")
    settings = Settings({"KONG_ROLE_FILE": str(tmp_path / "role")})
    assert settings.control_plane
    assert settings.file_variables == ()


@pytest.mark.parametrize("words", [["-c", "{}"], ["--conf", "{}"], ["--conf={}"]])
def test_the_conf_of_the_command_is_read(tmp_path: Path, words: list[str]) -> None:
    conf = tmp_path / "my.conf"
    conf.write_text("# plugins = no\nplugins = bundled, \\\n  mine # ours\n\nno equals sign\n prefix=/x\\#y\n")
    command = ["kong", "docker-start", *(word.format(conf) for word in words)]
    assert read_conf(command, defaults=[]) == {"plugins": "bundled,   mine", "prefix": "/x#y"}


def test_the_first_default_conf_that_exists_counts(tmp_path: Path) -> None:
    (tmp_path / "second").write_text("plugins=b")
    (tmp_path / "third").write_text("plugins=c")
    defaults = [tmp_path / "first", tmp_path / "second", tmp_path / "third"]
    assert read_conf(["kong", "docker-start"], defaults) == {"plugins": "b"}


def test_kong_conf_may_be_missing(tmp_path: Path) -> None:
    assert read_conf(["kong", "docker-start", "-c", str(tmp_path / "gone")]) == {}


@pytest.mark.parametrize(
    ("environ", "file", "told"),
    [
        ({}, {}, {}),
        ({}, {"log_level": " Debug "}, {"KONG_PYTHON_LOG_LEVEL": "debug"}),
        ({"KONG_LOG_LEVEL": "warn"}, {"log_level": "debug"}, {}),
        ({"KONG_PYTHON_LOG_LEVEL": "warn"}, {"log_level": "debug"}, {}),
        ({"KONG_PYTHON_LOG_LEVEL": "auto"}, {"log_level": "debug"}, {"KONG_PYTHON_LOG_LEVEL": "debug"}),
        ({}, {"log_level": "no such level"}, {}),
    ],
)
def test_a_log_level_of_kong_conf_is_told_to_plugin_servers(
    environ: dict[str, str], file: dict[str, str], told: dict[str, str]
) -> None:
    assert Settings(environ, file).log_level == told


def test_a_log_level_in_a_file_is_told_to_plugin_servers(tmp_path: Path) -> None:
    (tmp_path / "level").write_text("info\n")
    environ = {"KONG_LOG_LEVEL_FILE": str(tmp_path / "level")}
    assert Settings(environ).log_level == {"KONG_PYTHON_LOG_LEVEL": "info"}
    assert Settings({**environ, "KONG_LOG_LEVEL": "warn"}).log_level == {}
    assert Settings({"KONG_LOG_LEVEL_FILE": str(tmp_path / "absent")}).log_level == {}


def test_names_in_kong_conf_are_read_as_kong_reads_them() -> None:
    settings = Settings({}, {"pluginserver_py-hello_socket": "/x", "PLUGINS": "not,read"})
    assert settings.get("pluginserver_py_hello_socket") == "/x"
    assert settings.get("plugins") is None


@pytest.mark.parametrize(
    ("address", "environ", "option"),
    [
        (Address("0.0.0.0", 8000), {}, "proxy_listen"),
        (Address("10.1.2.3", 8443), {}, "proxy_listen"),
        (Address("0.0.0.0", 8001), {}, "admin_listen"),
        (Address("10.1.2.3", 8001), {}, None),
        (Address("0.0.0.0", 9542), {}, None),
        (Address("127.0.0.1", 8007), {}, "status_listen"),
        (Address("127.0.0.1", 8007), {"KONG_STATUS_LISTEN": "off"}, None),
        (Address("0.0.0.0", 8000), {"KONG_PROXY_LISTEN": "0.0.0.0:80, 0.0.0.0:443 ssl"}, None),
        (Address("::", 443), {"KONG_PROXY_LISTEN": "0.0.0.0:80 reuseport, [::1]:443 http2 ssl"}, "proxy_listen"),
        (Address("127.0.0.1", 5555), {"KONG_STREAM_LISTEN": "0.0.0.0:5555"}, "stream_listen"),
        (Address("127.0.0.1", 5555), {"KONG_STREAM_LISTEN": "unix:/tmp/x.sock, ,:5555,x:y"}, None),
    ],
)
def test_a_port_of_kong_is_known(address: Address, environ: Mapping[str, str], option: str | None) -> None:
    assert option_of(address, Settings(environ)) == option


def test_a_port_of_kong_is_refused_with_its_setting(environ: Mapping[str, str], run: RunDirectory) -> None:
    """Kong starts later, and would fail."""
    taken = {**environ, "KONG_PYTHON_METRICS_LISTEN": "0.0.0.0:8000"}
    with pytest.raises(StartError) as refusal:
        configuration.read(taken, (), run)
    assert str(refusal.value) == (
        "KONG_PYTHON_METRICS_LISTEN has the port 8000, on which Kong listens (proxy_listen); choose another one"
    )
    assert refusal.value.status == 78
