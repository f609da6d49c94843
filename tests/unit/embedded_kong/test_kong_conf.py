"""Which of the file, ``.kong_env`` and the environment wins, and that no value is lost on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedded_kong import kong_conf
from embedded_kong.console import CommandError


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    conf = tmp_path / "kong.conf"
    conf.write_text("log_level = debug\nplugins = bundled  # bundled with Kong\n\n# a comment\n")
    values = kong_conf.load({"KONG_LOG_LEVEL": "warn", "PATH": "/bin"}, conf)
    assert values["log_level"] == "warn"
    assert values["plugins"] == "bundled"
    assert "path" not in values


def test_the_prefix_option_wins_over_the_environment(tmp_path: Path) -> None:
    values = kong_conf.load({"KONG_PREFIX": "/elsewhere"}, None, tmp_path)
    assert values["prefix"] == str(tmp_path)


def test_the_prefix_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert kong_conf.load({"KONG_PREFIX": "here"})["prefix"] == str(tmp_path / "here")


def test_a_hash_in_a_file_is_kept_when_escaped(tmp_path: Path) -> None:
    conf = tmp_path / "kong.conf"
    conf.write_text("pg_password = a\\#b # the rest is a comment\n")
    assert kong_conf.read_file(conf) == {"pg_password": "a#b"}


def test_a_line_without_equals_is_named_with_its_number(tmp_path: Path) -> None:
    conf = tmp_path / "kong.conf"
    conf.write_text("plugins = off\nlog_level\n")
    with pytest.raises(CommandError, match=r"kong\.conf:2: 'log_level' is no setting"):
        kong_conf.read_file(conf)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"no file at: .*/absent\.conf"):
        kong_conf.load({}, tmp_path / "absent.conf")


def test_a_directory_in_place_of_a_file_is_an_error_not_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="could not read configuration file"):
        kong_conf.read_file(tmp_path)


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "with # a hash",
        'services:\n- name: a\n  url: "http://127.0.0.1"\n# comment\n',
        "a = b = c",
        "ends in a backslash\\",
        "\\\n\\\\#\n\n",
        "Latin-1 \udce9",
        "",
    ],
)
def test_kong_env_gives_back_every_value(tmp_path: Path, value: str) -> None:
    kong_conf.write_kong_env(tmp_path, {"a": "first", "declarative_config_string": value, "z": "last"})
    assert kong_conf.read_kong_env(tmp_path) == {
        "a": "first",
        "declarative_config_string": value,
        "z": "last",
    }


def test_kong_env_is_not_readable_by_others(tmp_path: Path) -> None:
    kong_conf.write_kong_env(tmp_path, {"pg_password": "secret"})
    assert (tmp_path / ".kong_env").stat().st_mode & 0o007 == 0


def test_kong_env_is_read_under_the_environment(tmp_path: Path) -> None:
    kong_conf.write_kong_env(tmp_path, {"plugins": "bundled,added", "log_level": "info"})
    values = kong_conf.load_running({"KONG_PLUGINS": "bundled", "KONG_PREFIX": str(tmp_path)})
    assert values["plugins"] == "bundled"
    assert values["log_level"] == "info"


def test_a_prefix_without_preparation_has_no_running_node(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=f"Kong is not running at {tmp_path}"):
        kong_conf.load_running({"KONG_PREFIX": str(tmp_path)})
    with pytest.raises(CommandError, match=f"no such prefix: {tmp_path}/absent"):
        kong_conf.load_running({"KONG_PREFIX": str(tmp_path / "absent")})
