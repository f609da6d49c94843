"""``kong.request``: what the client asked for, as far as plugins have not changed it."""

from __future__ import annotations

import time

from kong_pdk.gateway import paths
from kong_pdk.gateway.exchange import Exchange, RawHeaders
from kong_pdk.gateway.pdk import headers, query
from kong_pdk.gateway.pdk.calls import Event, function
from kong_pdk.gateway.pdk.checks import MAXIMUM_DEFAULT, maximum, string
from kong_pdk.wire.text import decode


def current_headers(exchange: Exchange) -> RawHeaders:
    """The client's headers with what plugins have changed in them."""
    return exchange.upstream.headers


def from_trusted(exchange: Exchange, name: str) -> str | None:
    """A forwarding header, if the client is one of the trusted proxies."""
    if not exchange.node.settings.trusted(exchange.request.client_ip):
        return None
    return headers.get(current_headers(exchange), name)


@function("kong.request.get_scheme")
def get_scheme(event: Event) -> str:
    return event.exchange.request.scheme


@function("kong.request.get_host")
def get_host(event: Event) -> str:
    return event.exchange.request.host


@function("kong.request.get_port")
def get_port(event: Event) -> int:
    return event.exchange.request.port


@function("kong.request.get_forwarded_scheme")
def get_forwarded_scheme(event: Event) -> str:
    given = from_trusted(event.exchange, "x-forwarded-proto")
    return given.lower() if given is not None else get_scheme(event)


@function("kong.request.get_forwarded_host")
def get_forwarded_host(event: Event) -> str:
    given = from_trusted(event.exchange, "x-forwarded-host")
    if given is None:
        return get_host(event)
    return given.rpartition("@")[2].partition(":")[0].lower()


@function("kong.request.get_forwarded_port")
def get_forwarded_port(event: Event) -> int:
    given = from_trusted(event.exchange, "x-forwarded-port")
    if given is None:
        given = (from_trusted(event.exchange, "x-forwarded-host") or "").rpartition(":")[2]
    if given.isascii() and given.isdigit() and 1 <= int(given) <= 65535:
        return int(given)
    return get_port(event)


@function("kong.request.get_forwarded_path")
def get_forwarded_path(event: Event) -> str:
    given = from_trusted(event.exchange, "x-forwarded-path")
    return get_path(event) if given is None else given


@function("kong.request.get_forwarded_prefix")
def get_forwarded_prefix(event: Event) -> str | None:
    given = from_trusted(event.exchange, "x-forwarded-prefix")
    if given is not None:
        return given
    # Before there is a route Kong's variable is set and empty.
    return "" if event.phase == "rewrite" else event.exchange.stripped_prefix


@function("kong.request.get_http_version")
def get_http_version(event: Event) -> float:
    return float(event.exchange.request.http_version)


@function("kong.request.get_method")
def get_method(event: Event) -> str:
    return event.exchange.upstream.method


@function("kong.request.get_path")
def get_path(event: Event) -> str:
    return decode(paths.normalize(event.exchange.request.raw_path))


@function("kong.request.get_raw_path")
def get_raw_path(event: Event) -> str:
    return decode(event.exchange.request.raw_path)


@function("kong.request.get_path_with_query")
def get_path_with_query(event: Event) -> str:
    """As the client sent it: a query that a plugin has set does not show here."""
    request = event.exchange.request
    return decode(request.raw_path + (b"?" + request.raw_query if request.raw_query else b""))


@function("kong.request.get_raw_query")
def get_raw_query(event: Event) -> str:
    return decode(event.exchange.upstream.raw_query)


@function("kong.request.get_query_arg")
def get_query_arg(event: Event, name: object = None) -> str | bool | None:
    wanted = string("query argument name", name)
    value = query.parse(event.exchange.upstream.raw_query, MAXIMUM_DEFAULT).get(wanted)
    return value[0] if isinstance(value, list) else value


@function("kong.request.get_query")
def get_query(event: Event, max_args: object = None) -> query.Arguments:
    return query.parse(event.exchange.upstream.raw_query, maximum("max_args", max_args))


@function("kong.request.get_header")
def get_header(event: Event, name: object = None) -> str | None:
    return headers.get(current_headers(event.exchange), string("header name", name))


@function("kong.request.get_headers")
def get_headers(event: Event, max_headers: object = None) -> dict[str, str | list[str]]:
    return headers.get_all(current_headers(event.exchange), maximum("max_headers", max_headers))


@function("kong.request.get_uri_captures")
def get_uri_captures(event: Event) -> dict[str, object]:
    """The groups of a regex path; group 0, the whole of it, is there when any other is."""
    exchange = event.exchange
    unnamed = list(exchange.unnamed_captures)
    return {
        "unnamed": [exchange.matched_path, *unnamed] if unnamed else [],
        "named": dict(exchange.named_captures),
    }


@function("kong.request.get_start_time")
def get_start_time(event: Event) -> int:
    return int(event.exchange.start_time * 1000)


def seconds_since(event: Event) -> float:
    """How long the request has been here."""
    return time.time() - event.exchange.start_time
