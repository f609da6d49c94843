"""``kong.nginx`` and ``kong.ctx``: nginx's variables and statistics, and values that plugins keep for a request."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from kong_pdk.gateway import paths
from kong_pdk.gateway.exchange import Exchange, Refused
from kong_pdk.gateway.pdk import headers, stream_values
from kong_pdk.gateway.pdk.checks import string
from kong_pdk.gateway.pdk.dispatch import Event, function
from kong_pdk.gateway.pdk.kong_client import get_forwarded_ip, get_forwarded_port
from kong_pdk.gateway.pdk.kong_request import current_headers, get_path_with_query, seconds_since
from kong_pdk.gateway.pdk.lua_values import tostring
from kong_pdk.gateway.stream.session import Session
from kong_pdk.wire.text import decode, encode


@function("kong.nginx.get_subsystem")
def get_subsystem(event: Event) -> str:
    return event.exchange.subsystem


@function("kong.nginx.req_start_time")
def req_start_time(event: Event) -> float:
    return round(event.exchange.start_time, 3)


@function("kong.nginx.get_tls1_version_str")
def get_tls1_version_str(event: Event) -> str | None:
    return event.exchange.request.tls_version


@function("kong.nginx.get_statistics")
def get_statistics(event: Event) -> dict[str, int]:
    statistics = event.exchange.node.statistics
    return {
        "connections_active": statistics.connections_active,
        "connections_reading": statistics.reading,
        "connections_writing": statistics.writing,
        "connections_waiting": statistics.waiting,
        "connections_accepted": statistics.connections_accepted,
        "connections_handled": statistics.connections_handled,
        "total_requests": statistics.requests,
    }


def _request_line(event: Event) -> str:
    request = event.exchange.request
    return f"{request.method} {get_path_with_query(event)} HTTP/{request.http_version}"


def _status(event: Event) -> str:
    return f"{event.exchange.response.status or 0:03d}"


def _port(event: Event) -> str:
    port = get_forwarded_port(event)
    return "" if port is None else str(port)


_VARIABLES: dict[str, Callable[[Event], str | None]] = {
    "request_uri": get_path_with_query,
    "request": _request_line,
    "request_method": lambda event: event.exchange.upstream.method,
    "request_id": lambda event: event.exchange.request_id,
    "kong_request_id": lambda event: event.exchange.request_id,
    "request_time": lambda event: f"{seconds_since(event):.3f}",
    "uri": lambda event: decode(paths.normalize(event.exchange.request.raw_path)),
    "args": lambda event: decode(event.exchange.upstream.raw_query),
    "query_string": lambda event: decode(event.exchange.upstream.raw_query),
    "is_args": lambda event: "?" if event.exchange.upstream.raw_query else "",
    "scheme": lambda event: event.exchange.request.scheme,
    "host": lambda event: event.exchange.request.host,
    "server_port": lambda event: str(event.exchange.request.port),
    "server_protocol": lambda event: f"HTTP/{event.exchange.request.http_version}",
    "server_name": lambda event: "kong",
    "remote_addr": get_forwarded_ip,
    "remote_port": _port,
    "realip_remote_addr": lambda event: event.exchange.request.client_ip,
    "realip_remote_port": lambda event: str(event.exchange.request.client_port),
    "content_type": lambda event: headers.get(current_headers(event.exchange), "content-type"),
    "content_length": lambda event: headers.get(current_headers(event.exchange), "content-length"),
    "status": _status,
    "upstream_uri": lambda event: decode(event.exchange.upstream.path),
    "upstream_host": lambda event: event.exchange.upstream.host_header,
    "upstream_scheme": lambda event: event.exchange.upstream.scheme,
    "hostname": lambda event: event.exchange.node.hostname,
    "pid": lambda event: str(os.getpid()),
    "msec": lambda event: f"{time.time():.3f}",
    "time_iso8601": lambda event: time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
}


@function("kong.nginx.get_var")
def get_var(event: Event, name: object = None) -> str | None:
    """A variable of nginx; None if this gateway does not have it."""
    variable = string("name", name)
    if isinstance(event.exchange, Session):
        return stream_values.variable(event.exchange, variable)
    getter = _VARIABLES.get(variable)
    return getter(event) if getter is not None else _header_or_argument(event.exchange, variable)


def _header_or_argument(exchange: Exchange, variable: str) -> str | None:
    """A variable whose name contains the name of a header or an argument."""
    if variable.startswith("http_"):
        return headers.get(current_headers(exchange), variable[5:])
    if variable.startswith("sent_http_"):
        return headers.get(exchange.response.headers, variable[10:])
    if variable.startswith("upstream_http_") and exchange.service_response is not None:
        return headers.get(exchange.service_response.headers, variable[14:])
    if variable.startswith("arg_"):
        return _argument(exchange.upstream.raw_query, variable[4:])
    return None


def _argument(raw: bytes, name: str) -> str | None:
    """nginx's ``$arg_name``: the first value, not decoded."""
    for part in raw.split(b"&"):
        key, equals, value = part.partition(b"=")
        if equals and key.lower() == encode(name).lower():
            return decode(value)
    return None


def _get(store: dict[str, object], key: object) -> object:
    return None if key is None else store.get(tostring(key))


def _set(store: dict[str, object], key: object, value: object) -> None:
    if key is None:
        raise Refused("table index is nil")
    if value is None:
        store.pop(tostring(key), None)
    else:
        store[tostring(key)] = value


@function("kong.ctx.shared.get")
def shared_get(event: Event, key: object = None) -> object:
    return _get(event.exchange.shared, key)


@function("kong.ctx.shared.set")
def shared_set(event: Event, key: object = None, value: object = None) -> None:
    _set(event.exchange.shared, key, value)


@function("kong.nginx.get_ctx")
def get_ctx(event: Event, key: object = None) -> object:
    return _get(event.exchange.nginx_ctx, key)


@function("kong.nginx.set_ctx")
def set_ctx(event: Event, key: object = None, value: object = None) -> None:
    _set(event.exchange.nginx_ctx, key, value)
