"""``kong.request``: the client's request with the changes that plugins have made, and its body as a table."""

from __future__ import annotations

import json
import time
from typing import Any

from kong_pdk.gateway import paths
from kong_pdk.gateway.exchange import Body, Exchange, RawHeaders
from kong_pdk.gateway.pdk import forms, headers
from kong_pdk.gateway.pdk.checks import MAXIMUM_DEFAULT, integer, maximum, string
from kong_pdk.gateway.pdk.dispatch import MSGPACK, Event, function
from kong_pdk.wire.pdk_values.protobuf_results import RawBody
from kong_pdk.wire.text import decode, encode


def current_headers(exchange: Exchange) -> RawHeaders:
    """The client's headers with the changes that plugins have made."""
    return exchange.upstream.headers


def from_trusted(exchange: Exchange, name: str) -> str | None:
    """A forwarding header, if the client is a trusted proxy."""
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
    forwarded = from_trusted(event.exchange, "x-forwarded-proto")
    return forwarded.lower() if forwarded is not None else get_scheme(event)


@function("kong.request.get_forwarded_host")
def get_forwarded_host(event: Event) -> str:
    forwarded = from_trusted(event.exchange, "x-forwarded-host")
    if forwarded is None:
        return get_host(event)
    return forwarded.rpartition("@")[2].partition(":")[0].lower()


@function("kong.request.get_forwarded_port")
def get_forwarded_port(event: Event) -> int:
    forwarded = from_trusted(event.exchange, "x-forwarded-port")
    if forwarded is None:
        forwarded = (from_trusted(event.exchange, "x-forwarded-host") or "").rpartition(":")[2]
    if forwarded.isascii() and forwarded.isdigit() and 1 <= int(forwarded) <= 65535:
        return int(forwarded)
    return get_port(event)


@function("kong.request.get_forwarded_path")
def get_forwarded_path(event: Event) -> str:
    forwarded = from_trusted(event.exchange, "x-forwarded-path")
    return get_path(event) if forwarded is None else forwarded


@function("kong.request.get_forwarded_prefix")
def get_forwarded_prefix(event: Event) -> str | None:
    forwarded = from_trusted(event.exchange, "x-forwarded-prefix")
    if forwarded is not None:
        return forwarded
    # Kong's variable is empty before the route is known.
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
    """The path and the query as the client sent them, without changes by plugins."""
    request = event.exchange.request
    return decode(request.raw_path + (b"?" + request.raw_query if request.raw_query else b""))


@function("kong.request.get_raw_query")
def get_raw_query(event: Event) -> str:
    return decode(event.exchange.upstream.raw_query)


@function("kong.request.get_query_arg")
def get_query_arg(event: Event, name: object = None) -> str | bool | None:
    argument = string("query argument name", name)
    value = forms.parse(event.exchange.upstream.raw_query, MAXIMUM_DEFAULT).get(argument)
    return value[0] if isinstance(value, list) else value


@function("kong.request.get_query")
def get_query(event: Event, max_args: object = None) -> forms.Arguments:
    return forms.parse(event.exchange.upstream.raw_query, maximum("max_args", max_args))


@function("kong.request.get_header")
def get_header(event: Event, name: object = None) -> str | None:
    return headers.get(current_headers(event.exchange), string("header name", name))


@function("kong.request.get_headers")
def get_headers(event: Event, max_headers: object = None) -> dict[str, str | list[str]]:
    return headers.get_all(current_headers(event.exchange), maximum("max_headers", max_headers))


@function("kong.request.get_uri_captures")
def get_uri_captures(event: Event) -> dict[str, object]:
    """The groups of a regex path. Group 0 is included if there are other groups."""
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
    """The time since the request began."""
    return time.time() - event.exchange.start_time


_EXACT_DIGITS = 15


async def _body(event: Event) -> Body:
    changed = event.exchange.upstream.body
    return Body(changed) if changed is not None else await event.exchange.request.read_body()


@function("kong.request.get_raw_body")
async def get_raw_body(event: Event) -> bytes | RawBody | None:
    """The body. If it is in a file: the file's path over ProtoBuf:1, and nil over MsgPack:1."""
    body = await _body(event)
    if body.file is None:
        return body.content
    return None if event.protocol == MSGPACK else RawBody(path=str(body.file))


@function("kong.request.get_body")
async def get_body(event: Event, mimetype: object = None, max_args: object = None, max_file_size: object = None) -> Any:
    """The body as a table; None if its type is unknown, it is malformed, or it is in a file that is too large."""
    kind = headers.get(current_headers(event.exchange), "content-type")
    if mimetype is not None:
        kind = string("mimetype", mimetype)
    most = maximum("max_args", max_args)
    limit = 0 if max_file_size is None else integer("max_allowed_file_size", max_file_size, -1, 2**53)
    if kind is None:
        return None
    body = await _body(event)
    content = body.content
    if body.file is not None:
        size = body.file.stat().st_size
        if limit == 0 or (limit > 0 and size > limit):
            return None
        content = body.file.read_bytes()
    return parse_body(kind, content, most)


def parse_body(kind: str, content: bytes, max_args: int) -> Any:
    """A body as a table, by its Content-Type ``kind``; None where Kong returns an error."""
    name = kind.partition(";")[0].strip().lower()
    if name == "application/x-www-form-urlencoded":
        return forms.parse(content, max_args)
    if name == "application/json":
        return _json(content)
    if name == "multipart/form-data":
        return forms.parse_multipart(kind, content)
    return None


def _json(content: bytes) -> Any:
    """A JSON object or array; None for other text, and for lone surrogates, which a Lua string cannot hold."""
    try:
        value = json.loads(decode(content), parse_int=_lua_number)
        encode(json.dumps(value, ensure_ascii=False))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, (dict, list)) else None


def _lua_number(text: str) -> int | float:
    """An integer as Lua reads it: as a double, which does not keep more than 15 digits."""
    return int(text) if len(text) <= _EXACT_DIGITS else float(text)
