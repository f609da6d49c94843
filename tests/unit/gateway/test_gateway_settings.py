"""Settings from the environment: Kong's names and defaults, and errors with a hint."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kong_pdk.gateway.gateway_settings import Listener, PluginServer, Settings, SettingsError


def read(**values: str) -> Settings:
    return Settings.from_environment({f"KONG_{name.upper()}": value for name, value in values.items()})


def test_defaults_are_kong_s() -> None:
    settings = read()
    assert settings.prefix == Path("/usr/local/kong")
    assert settings.proxy_listen == (
        Listener("0.0.0.0", 8000, ssl=False, backlog=16384),
        Listener("0.0.0.0", 8443, ssl=True, backlog=16384),
    )
    assert settings.status_listen == (Listener("127.0.0.1", 8007, backlog=16384),)
    assert (settings.log_level, settings.plugins, settings.real_ip_header) == ("notice", ("key-auth",), "X-Real-IP")


def test_settings_of_kong_that_the_gateway_does_not_need_are_ignored() -> None:
    assert read(nginx_worker_processes="2", dns_order="A", lua_package_path="x", nginx_daemon="off") == read()


def test_listeners() -> None:
    settings = read(proxy_listen="[::1]:80 ssl, localhost:81 reuseport ipv6only=on", status_listen="off")
    assert settings.proxy_listen == (Listener("::1", 80, ssl=True), Listener("localhost", 81))
    assert settings.status_listen == ()


def test_stream_listeners() -> None:
    assert read().stream_listen == ()
    assert read(stream_listen="0.0.0.0:9000 reuseport backlog=10, [::1]:9001").stream_listen == (
        Listener("0.0.0.0", 9000, backlog=10),
        Listener("::1", 9001),
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "0.0.0.0:9000 ssl",
            "^stream_listen: the embedded gateway does not terminate TLS on streams; "
            "remove ssl from KONG_STREAM_LISTEN$",
        ),
        ("0.0.0.0:9000 udp", "stream_listen: the embedded gateway has no udp; remove the word"),
        (
            "0.0.0.0:9000 http2",
            "stream_listen must be of form: .* <ip>:<port> .ssl. .udp. .*'0.0.0.0:9000 http2' is not",
        ),
        ("9000", "stream_listen must be of form"),
    ],
)
def test_invalid_stream_listeners(value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read(stream_listen=value)


def test_udp_is_refused_for_http() -> None:
    with pytest.raises(SettingsError, match="proxy_listen must be of form"):
        read(proxy_listen="0.0.0.0:9000 udp")


def test_plugin_servers() -> None:
    settings = read(
        prefix="/p",
        pluginserver_names="My-Plugin, other",
        pluginserver_my_plugin_query_cmd="query it",
        pluginserver_my_plugin_start_cmd="start it",
        pluginserver_other_query_cmd="q",
        pluginserver_other_socket="/s/o.sock",
    )
    assert settings.pluginservers == (
        PluginServer("my-plugin", Path("/p/my-plugin.socket"), "start it", "query it"),
        PluginServer("other", Path("/s/o.sock"), None, "q"),
    )


def test_plugins() -> None:
    assert read(plugins="bundled,py-hello,py-hello").plugins == ("key-auth", "py-hello")
    assert read(plugins="py-hello").plugins == ("py-hello",)
    assert read(plugins="off").plugins == ()


def test_trusted_addresses() -> None:
    settings = read(trusted_ips="10.0.0.0/8, ::1, unix:")
    assert [settings.trusted(ip) for ip in ("10.1.2.3", "::1", "11.0.0.1", "no address")] == [True, True, False, False]


def test_headers() -> None:
    assert read(headers="off").headers == ()
    assert read(headers="server_tokens, X-Kong-Request-Id").headers == ("server_tokens", "x-kong-request-id")
    with pytest.raises(SettingsError, match="headers: invalid entry 'X-Kong-Upstream'; set KONG_HEADERS to off, or to"):
        read(headers="via, X-Kong-Upstream")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"database": "postgres"}, "database is 'postgres' and the embedded gateway has none; set KONG_DATABASE=off"),
        ({"role": "data_plane"}, "role: the embedded gateway has no hybrid mode; unset KONG_ROLE"),
        ({"log_level": "loud"}, "log_level has an invalid value: 'loud'"),
        ({"proxy_listen": "8000"}, "proxy_listen must be of form: [off] | <ip>:<port> [ssl]"),
        ({"proxy_listen": "0.0.0.0:99999"}, "proxy_listen must be of form"),
        ({"proxy_listen": "0.0.0.0:80 fast"}, "'0.0.0.0:80 fast' is not"),
        ({"proxy_listen": "0.0.0.0:80 proxy_protocol"}, "the embedded gateway has no proxy_protocol; remove the word"),
        ({"trusted_ips": "everybody"}, "trusted_ips: 'everybody' is not an IP address or CIDR block"),
        ({"pluginserver_names": "a b"}, "pluginserver_names: 'a b' is not a name for a plugin server"),
        ({"pluginserver_names": "none-such"}, "query_command undefined for pluginserver none-such; "
         "set KONG_PLUGINSERVER_NONE_SUCH_QUERY_CMD"),
        ({"nginx_http_client_body_buffer_size": "big"}, "nginx_http_client_body_buffer_size: 'big' is not a size"),
    ],
)  # fmt: skip
def test_errors_name_the_setting_and_the_hint(values: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        read(**values)
