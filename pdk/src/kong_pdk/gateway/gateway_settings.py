"""The gateway's settings, read from ``KONG_*`` environment variables with Kong's names and defaults."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from kong_pdk.interface_file import PATH
from kong_pdk.plugin import bundled, server_name
from kong_pdk.plugin.names import key_of
from kong_pdk.settings import KONG_PREFIX, LOG_LEVELS

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULTS = {
    "proxy_listen": "0.0.0.0:8000 reuseport backlog=16384, 0.0.0.0:8443 http2 ssl reuseport backlog=16384",
    "status_listen": "127.0.0.1:8007 reuseport backlog=16384",
}
"""Kong's own defaults of the listeners, as Kong spells them."""

_LISTEN = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):(?P<port>\d{1,5})(?P<flags>(?:\s+\S+)*)")
_FLAGS = {"ssl", "http2", "proxy_protocol", "deferred", "bind", "reuseport"}
_STREAM_FLAGS = {"ssl", "udp", "proxy_protocol", "deferred", "bind", "reuseport"}
_SERVER_NAME = re.compile(r"[A-Za-z0-9_-]+")
_HEADERS = "server_tokens, latency_tokens, X-Kong-Request-Id"
TOKENS = {
    "server_tokens": ("server", "via"),
    "latency_tokens": (
        "x-kong-proxy-latency",
        "x-kong-response-latency",
        "x-kong-admin-latency",
        "x-kong-upstream-latency",
    ),
}
"""Words of the setting ``headers``, and the headers that each stands for, in lower case."""
_HEADER_TOKENS = frozenset(
    {"x-kong-upstream-status", "x-kong-request-id", *TOKENS, *(name for names in TOKENS.values() for name in names)}
)
# The bundled plugins of Kong that the embedded gateway has.
BUNDLED = ("key-auth",)
_SKIPPED = tuple(sorted(bundled() - {*BUNDLED}))


class SettingsError(Exception):
    """A setting is invalid. The message has the setting's name and a hint."""


@dataclass(frozen=True)
class Listener:
    """An address to listen on. Port 0 stands for any free port."""

    host: str
    port: int
    ssl: bool = False
    backlog: int = 2048


@dataclass(frozen=True)
class PluginServer:
    """One entry of ``pluginserver_names``. Without a start command, another program starts the server."""

    name: str
    socket: Path
    start_command: str | None
    query_command: str


@dataclass(frozen=True)
class Settings:
    """The gateway's settings. Sizes are in bytes.

    ``interface_file`` is read at each start and reload; as in Kong, no environment variable sets it.
    ``skipped_plugins`` are enabled plugins of Kong that this gateway does not have. ``http2`` is whether
    ``proxy_listen`` asks for HTTP/2, which this gateway does not have.
    """

    prefix: Path = Path(KONG_PREFIX)
    declarative_config: Path | None = None
    declarative_config_string: str | None = None
    proxy_listen: tuple[Listener, ...] = ()
    status_listen: tuple[Listener, ...] = ()
    stream_listen: tuple[Listener, ...] = ()
    stream_half_close: bool = False
    admin_listen: str | None = None
    log_level: str = "notice"
    proxy_access_log: str = "logs/access.log"
    proxy_error_log: str = "logs/error.log"
    proxy_stream_access_log: str = "logs/access.log"
    plugins: tuple[str, ...] = BUNDLED
    skipped_plugins: tuple[str, ...] = ()
    pluginservers: tuple[PluginServer, ...] = ()
    trusted_ips: tuple[Network, ...] = ()
    real_ip_header: str = "X-Real-IP"
    real_ip_recursive: bool = False
    ssl_cert: tuple[str, ...] = ()
    ssl_cert_key: tuple[str, ...] = ()
    headers: tuple[str, ...] = ("server_tokens", "latency_tokens", "x-kong-request-id")
    headers_upstream: tuple[str, ...] = ("x-kong-request-id",)
    error_default_type: str = "text/plain"
    node_id: str | None = None
    body_buffer_size: int = 8192
    interface_file: Path = PATH
    http2: bool = False

    def trusted(self, address: str) -> bool:
        """Whether ``address`` is an IP address in ``trusted_ips``."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.trusted_ips)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings. Settings of Kong that this gateway does not use are ignored.

        Raises :class:`SettingsError`.
        """
        return _Reader(environment).read()


class _Reader:
    """Reads a setting ``name`` from ``KONG_NAME``. As in Kong, an empty variable is the same as none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def read(self) -> Settings:
        self._refuse_databases()
        prefix = Path(self._text("prefix", KONG_PREFIX))
        declarative = self._text("declarative_config")
        return Settings(
            prefix=prefix,
            declarative_config=Path(declarative) if declarative else None,
            declarative_config_string=self._text("declarative_config_string") or None,
            proxy_listen=self._listeners("proxy_listen", DEFAULTS["proxy_listen"]),
            status_listen=self._listeners("status_listen", DEFAULTS["status_listen"]),
            stream_listen=self._stream_listeners(),
            stream_half_close=self._stream_half_close(),
            admin_listen=self._text("admin_listen") or None,
            log_level=self._choice("log_level", LOG_LEVELS, "notice"),
            proxy_access_log=self._text("proxy_access_log", "logs/access.log").split()[0],
            proxy_error_log=self._text("proxy_error_log", "logs/error.log").split()[0],
            proxy_stream_access_log=self._text("proxy_stream_access_log", "logs/access.log").split()[0],
            plugins=tuple(name for name in self._plugins() if name not in _SKIPPED),
            skipped_plugins=tuple(name for name in self._plugins() if name in _SKIPPED),
            pluginservers=self._pluginservers(prefix),
            trusted_ips=self._networks("trusted_ips"),
            real_ip_header=self._text("real_ip_header", "X-Real-IP"),
            real_ip_recursive=self._switch("real_ip_recursive", False),
            ssl_cert=self._list("ssl_cert"),
            ssl_cert_key=self._list("ssl_cert_key"),
            headers=self._headers(),
            headers_upstream=self._tokens("headers_upstream", "X-Kong-Request-Id"),
            error_default_type=self._text("error_default_type", "text/plain"),
            node_id=self._text("node_id") or None,
            http2="http2" in self._text("proxy_listen").split(),
            body_buffer_size=self._size("nginx_http_client_body_buffer_size", "8k"),
        )

    def _text(self, name: str, default: str = "") -> str:
        return self._environment.get(f"KONG_{name.upper()}", "").strip() or default

    def _list(self, name: str, default: str = "") -> tuple[str, ...]:
        parts = (part.strip() for part in self._text(name, default).split(","))
        return tuple(part for part in parts if part)

    def _tokens(self, name: str, default: str) -> tuple[str, ...]:
        tokens = tuple(token.lower() for token in self._list(name, default))
        return () if tokens[:1] == ("off",) else tokens

    def _headers(self) -> tuple[str, ...]:
        for token in self._list("headers"):
            if token.lower() not in {*_HEADER_TOKENS, "off"}:
                known = ", ".join(sorted(_HEADER_TOKENS))
                raise SettingsError(f"headers: invalid entry '{token}'; set KONG_HEADERS to off, or to any of {known}")
        return self._tokens("headers", _HEADERS)

    def _choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        value = self._text(name, default)
        if value not in allowed:
            raise SettingsError(
                f"{name} has an invalid value: '{value}' ({', '.join(allowed)}); set KONG_{name.upper()} to one"
            )
        return value

    def _switch(self, name: str, default: bool) -> bool:
        return self._text(name, "on" if default else "off").lower() in {"on", "true", "yes", "1"}

    def _size(self, name: str, default: str) -> int:
        value = self._text(name, default).lower()
        match = re.fullmatch(r"(\d+)([km]?)", value)
        if match is None:
            raise SettingsError(f"{name}: '{value}' is not a size; give bytes, or a number with k or m")
        return int(match[1]) * {"": 1, "k": 1024, "m": 1024 * 1024}[match[2]]

    def _refuse_databases(self) -> None:
        database = self._text("database", "off")
        if database != "off":
            raise SettingsError(
                f"database is '{database}' and the embedded gateway has none; "
                "set KONG_DATABASE=off and KONG_DECLARATIVE_CONFIG to a file"
            )
        if self._text("role", "traditional") != "traditional":
            raise SettingsError("role: the embedded gateway has no hybrid mode; unset KONG_ROLE")

    def _listeners(self, name: str, default: str, known: Collection[str] = _FLAGS) -> tuple[Listener, ...]:
        text = self._text(name, default)
        if text.lower() == "off":
            return ()
        return tuple(self._listener(name, part.strip(), known) for part in text.split(","))

    def _stream_listeners(self) -> tuple[Listener, ...]:
        listeners = self._listeners("stream_listen", "off", _STREAM_FLAGS)
        if any(listener.ssl for listener in listeners):
            raise SettingsError(
                "stream_listen: the embedded gateway does not terminate TLS on streams; "
                "remove ssl from KONG_STREAM_LISTEN"
            )
        return listeners

    def _stream_half_close(self) -> bool:
        """nginx's ``proxy_half_close``, which Kong can set in the stream block or in the server block inside it."""
        names = ("nginx_sproxy_proxy_half_close", "nginx_stream_proxy_half_close")
        return self._switch(next((name for name in names if self._text(name)), names[0]), False)

    def _listener(self, name: str, text: str, known_flags: Collection[str]) -> Listener:
        match = _LISTEN.fullmatch(text)
        flags = match["flags"].split() if match else []
        backlog, valid = 2048, True
        for flag in flags:
            key, _, value = flag.partition("=")
            if key == "backlog" and value.isdigit():
                backlog = int(value)
            elif key not in known_flags and key not in {"ipv6only", "so_keepalive"}:
                valid = False
        if match is None or not valid or int(match["port"]) > 65535:
            words = "[udp]" if "udp" in known_flags else "[http2]"
            raise SettingsError(
                f"{name} must be of form: [off] | <ip>:<port> [ssl] {words} [proxy_protocol] [deferred] "
                f"[bind] [reuseport] [backlog=%d+] [ipv6only=on] [ipv6only=off] [so_keepalive=on], [... next "
                f"entry ...]; '{text}' is not"
            )
        for word in ("proxy_protocol", "udp"):
            if word in flags:
                raise SettingsError(f"{name}: the embedded gateway has no {word}; remove the word")
        return Listener(match["host"].strip("[]"), int(match["port"]), "ssl" in flags, backlog)

    def _plugins(self) -> tuple[str, ...]:
        names = self._list("plugins", "bundled")
        if names == ("off",):
            return ()
        expanded: list[str] = []
        for name in names:
            expanded.extend((*BUNDLED, *_SKIPPED) if name == "bundled" else (name,))
        return tuple(dict.fromkeys(expanded))

    def _pluginservers(self, prefix: Path) -> tuple[PluginServer, ...]:
        names = self._list("pluginserver_names")
        return () if names == ("off",) else tuple(self._pluginserver(name, prefix) for name in names)

    def _pluginserver(self, name: str, prefix: Path) -> PluginServer:
        if not _SERVER_NAME.fullmatch(name):
            raise SettingsError(
                f"pluginserver_names: '{name}' is not a name for a plugin server; use letters, digits, - and _"
            )
        name = server_name(name)
        key = f"pluginserver_{key_of(name)}"
        program = Path("/usr/local/bin") / name
        installed = os.access(program, os.F_OK)
        query = self._text(f"{key}_query_cmd", f"{program} -dump" if installed else "")
        if not query:
            raise SettingsError(
                f"query_command undefined for pluginserver {name}; "
                f"set KONG_{key.upper()}_QUERY_CMD to a command that prints its plugins"
            )
        return PluginServer(
            name=name,
            socket=Path(self._text(f"{key}_socket", str(prefix / f"{name}.socket"))),
            start_command=self._text(f"{key}_start_cmd", str(program) if installed else "") or None,
            query_command=query,
        )

    def _networks(self, name: str) -> tuple[Network, ...]:
        networks: list[Network] = []
        for text in self._list(name):
            if text == "unix:":
                continue
            try:
                networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                raise SettingsError(
                    f"{name}: '{text}' is not an IP address or CIDR block; correct KONG_{name.upper()}"
                ) from None
        return tuple(networks)
