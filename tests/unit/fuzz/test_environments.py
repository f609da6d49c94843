"""Environment variables with any values: each is read, or a line names the variable and says what is wrong with it."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kong_pdk import cli
from kong_pdk import settings as variables
from kong_pdk.exit_status import StartError
from kong_pdk.gateway.gateway_settings import Settings, SettingsError
from kong_pdk.image import configuration
from kong_pdk.image.run_directory import RunDirectory
from kong_pdk.settings import SettingError

INPUTS = "environments"

MORE = settings(max_examples=settings.default.max_examples * 5)

OWN = {each.name: each for each in variables.VARIABLES}
OF_THE_GATEWAY = [
    "admin_listen",
    "database",
    "declarative_config",
    "declarative_config_string",
    "error_default_type",
    "headers",
    "headers_upstream",
    "log_level",
    "nginx_http_client_body_buffer_size",
    "node_id",
    "plugins",
    "pluginserver_names",
    "pluginserver_a_socket",
    "pluginserver_a_start_cmd",
    "pluginserver_a_query_cmd",
    "prefix",
    "proxy_access_log",
    "proxy_error_log",
    "proxy_listen",
    "proxy_stream_access_log",
    "real_ip_header",
    "real_ip_recursive",
    "role",
    "ssl_cert",
    "ssl_cert_key",
    "status_listen",
    "stream_listen",
    "trusted_ips",
    "vaults",
    "nginx_main_user",
    "nginx_user",
    "nginx_stream_proxy_half_close",
    "resolver_hosts_file",
]
OF_THE_IMAGE = [
    "plugins",
    "pluginserver_names",
    "pluginserver_good_socket",
    "pluginserver_good_query_cmd",
    "role",
    "pluginserver_py-x_socket",
    "proxy_listen",
    "status_listen",
    "log_level",
    "nginx_main_user",
    "pluginserver_a_socket",
    "pluginserver_a_query_cmd",
    "prefix",
    "database",
]

plausible = st.sampled_from(
    [
        "",
        " ",
        "0",
        "1",
        "-1",
        "65536",
        "1e999",
        "nan",
        "inf",
        "0.1",
        "\u0663",
        "9" * 5000,
        "on",
        "off",
        "auto",
        "ON",
        "a",
        "a,b",
        ",",
        "a,,b",
        "a b",
        "bundled,a",
        "bundled, a ,a",
        "open:a",
        "open:",
        "127.0.0.1:80",
        "[::]:8000 ssl",
        "0.0.0.0:0",
        "host:99999",
        "::",
        "[::1",
        "127.0.0.1:8000 reuseport backlog=x",
        "0.0.0.0/0",
        "10.0.0.0/99",
        "/",
        "/dev/null",
        "/proc/self/mem",
        "relative/path",
        "/" + "x" * 300,
        "/x/" * 1000,
        "~",
        "$HOME",
        "${A}",
        "`id`",
        "{}",
        "[]",
        "{vault://env/x}",
        "1.2.3",
        "ProtoBuf:1",
        "msgpack:1",
        "warn",
        "json",
        "good",
        "good,py-x",
        "a" * 9_000,
        "\n",
        "a\nb",
        "a\r\n",
        "\t",
        "'",
        '"',
        "\\",
        "#",
        "a#b",
        "%s",
        "%",
        "=",
        "\x1b[31m",
        "\udcff",
        "\udc80:\udcff",
        "\ufeff",
        "\U0001f600",
    ]
)
PLUGIN = "class Plugin:\n    def __init__(self, config): pass\n    def access(self, kong): pass\n"
values = st.one_of(
    plausible,
    st.binary(max_size=40).map(lambda raw: os.fsdecode(raw.replace(b"\0", b""))),
    st.lists(plausible, min_size=2, max_size=2).map(",".join),
)


def environments(names: list[str]) -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(st.sampled_from(names), values, min_size=1, max_size=6)


def is_one_line(text: str) -> bool:
    return len(text.splitlines()) == 1 and text.isprintable()


@MORE
@given(
    st.one_of(
        environments(sorted(OWN)),
        st.dictionaries(values.map("KONG_PYTHON_{}".format), values, max_size=3),
    )
)
def test_a_setting_of_ours_is_read_or_named(environ: dict[str, str]) -> None:
    messages = variables.check(environ)
    for name, variable in OWN.items():
        with contextlib.suppress(SettingError):
            variable.read(environ)
            assert not [message for message in messages if message.startswith(f"{name} is")]
    for message in messages:
        assert is_one_line(message), message
        assert any(variables.shown(name) in message for name in environ)


@MORE
@given(environments([f"KONG_{name.upper()}" for name in OF_THE_GATEWAY]))
def test_a_setting_of_the_gateway_is_read_or_named(environ: dict[str, str]) -> None:
    try:
        Settings.from_environment(environ)
    except SettingsError as error:
        assert str(error)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with one plugin, and go to an empty directory: a relative path leads there."""
    place = tmp_path_factory.mktemp("place")
    (place / "plugins").mkdir()
    (place / "plugins/good.py").write_text(PLUGIN)
    (place / "cwd").mkdir()
    return place


@given(environments([f"KONG_{name.upper()}" for name in OF_THE_IMAGE]))
def test_the_image_starts_or_says_why_not(place: Path, environ: dict[str, str]) -> None:
    environ = {**environ, "KONG_PYTHON_PLUGINS_DIR": str(place / "plugins")}
    try:
        setup = configuration.read(
            environ, (), RunDirectory(Path("/nowhere"))
        )  # a path that is short enough for a socket
    except (StartError, SettingError) as error:
        assert str(error)
    else:
        assert not setup.problems
        assert [plugin.name for plugin in setup.plugins] == ["good"]
        assert all(map(str, setup.notes))


def run(place: Path, environ: Mapping[str, str], *words: str) -> tuple[int, str]:
    """Run a command in this process; give its status and all that it wrote."""
    written = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
    places = {
        "KONG_PYTHON_PLUGINS_DIR": str(place / "plugins"),
        "PATH": os.environ["PATH"],
        "TMPDIR": str(place),
    }
    here = Path.cwd()
    os.chdir(place / "cwd")
    try:
        environment = mock.patch.dict(os.environ, {**environ, **places}, clear=True)
        with (
            environment,
            contextlib.redirect_stdout(written),
            contextlib.redirect_stderr(written),
        ):
            status = cli.main(words)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    finally:
        os.chdir(here)
    assert not list((place / "cwd").iterdir())
    return status, written.buffer.getvalue().decode()


@given(
    environments(
        [
            *sorted({*OWN} - {"KONG_PYTHON_PLUGINS_DIR"}),
            *(f"KONG_{name.upper()}" for name in OF_THE_IMAGE),
        ]
    )
)
def test_a_command_ends_with_a_message(place: Path, environ: dict[str, str]) -> None:
    for words in (
        ["settings"],
        ["env"],
        ["plugins", "--json"],
        ["check", str(place / "none.yml")],
        ["health"],
    ):
        status, written = run(place, environ, *words)
        assert status in {0, 1, 2, 78}, written
        assert written or status == 0
        assert "Traceback" not in written
