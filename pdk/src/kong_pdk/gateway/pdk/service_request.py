"""``kong.service.request``: what is sent to the service."""

from __future__ import annotations

import json
from typing import Any, Literal

from kong_pdk.gateway import paths
from kong_pdk.gateway.exchange import Refused, UpstreamRequest
from kong_pdk.gateway.pdk import headers, multipart, query
from kong_pdk.gateway.pdk.calls import Event, function
from kong_pdk.gateway.pdk.checks import string, table
from kong_pdk.wire.text import decode, encode

_METHODS = frozenset(
    {
        "GET",
        "HEAD",
        "PUT",
        "POST",
        "DELETE",
        "OPTIONS",
        "MKCOL",
        "COPY",
        "MOVE",
        "PROPFIND",
        "PROPPATCH",
        "LOCK",
        "UNLOCK",
        "PATCH",
        "TRACE",
    }
)
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"


@function("kong.service.request.enable_buffering")
def enable_buffering(event: Event) -> None:
    event.exchange.upstream.buffering = True


@function("kong.service.request.set_scheme")
def set_scheme(event: Event, scheme: object = None) -> None:
    if string("scheme", scheme) not in {"http", "https"}:
        raise Refused("invalid scheme: " + str(scheme))
    event.exchange.upstream.scheme = str(scheme)


@function("kong.service.request.set_path")
def set_path(event: Event, path: object = None) -> None:
    if not string("path", path).startswith("/"):
        raise Refused("path must start with /")
    event.exchange.upstream.path = paths.escape(encode(str(path)))


@function("kong.service.request.set_raw_query")
def set_raw_query(event: Event, raw_query: object = None) -> None:
    event.exchange.upstream.raw_query = encode(string("query", raw_query))


@function("kong.service.request.set_method")
def set_method(event: Event, method: object = None) -> None:
    if string("method", method) not in _METHODS:
        raise Refused(f"invalid method: {method}")
    event.exchange.upstream.method = str(method)


@function("kong.service.request.set_query")
def set_query(event: Event, args: object = None) -> None:
    event.exchange.upstream.raw_query = query.build(table("args", args))


@function("kong.service.request.clear_query_arg")
def clear_query_arg(event: Event, name: object = None) -> None:
    upstream = event.exchange.upstream
    upstream.raw_query = query.without(upstream.raw_query, string("query argument name", name))


@function("kong.service.request.set_header")
def set_header(event: Event, name: object = None, value: object = None) -> None:
    header = string("header", name)
    _put(event, header, headers.values(header, value))


@function("kong.service.request.add_header")
def add_header(event: Event, name: object = None, value: object = None) -> None:
    header = string("header", name)
    new = headers.values(header, value)
    if header.lower() == "host":
        _put(event, header, new)
    else:
        headers.append(event.exchange.upstream.headers, header, new)


@function("kong.service.request.clear_header")
def clear_header(event: Event, name: object = None) -> None:
    headers.remove(event.exchange.upstream.headers, string("header", name))


@function("kong.service.request.set_headers")
def set_headers(event: Event, given: object = None) -> None:
    for name, new in headers.checked(table("headers", given)):
        _put(event, name, new)


def _put(event: Event, name: str, new: list[bytes]) -> None:
    upstream = event.exchange.upstream
    if name.lower() == "host" and new:
        upstream.host_header = decode(new[0])
        if event.phase == "rewrite":
            # nginx's $host follows the header, and X-Forwarded-Host is made of it when the route is found.
            event.exchange.request.host = upstream.host_header.partition(":")[0].lower()
    headers.put(upstream.headers, name, new)


@function("kong.service.request.set_raw_body")
def set_raw_body(event: Event, body: object = None) -> None:
    _set_body(event.exchange.upstream, encode(string("body", body)))


def _set_body(upstream: UpstreamRequest, content: bytes) -> None:
    upstream.body = content
    headers.remove(upstream.headers, "transfer-encoding")
    headers.put(upstream.headers, "Content-Length", [str(len(content)).encode()])


@function("kong.service.request.set_body")
def set_body(event: Event, args: object = None, mimetype: object = None) -> bool | None:
    """Encode a table as the body; None when neither an argument nor a header says how."""
    fields = table("args", args)
    upstream = event.exchange.upstream
    kind = headers.get(upstream.headers, "content-type") if mimetype is None else string("mimetype", mimetype)
    if kind is None:
        return None
    name = kind.partition(";")[0].strip().lower()
    content_type, content = _encoded(name, kind, fields, mimetype is None)
    _set_body(upstream, content)
    headers.put(upstream.headers, "Content-Type", [encode(content_type)])
    return True


def _encoded(name: str, kind: str, fields: dict[str, Any], keep: bool) -> tuple[str, bytes]:
    if name == _FORM:
        return name, query.build(fields)
    if name == _JSON:
        return name, encode(json.dumps(fields, separators=(",", ":"), ensure_ascii=False))
    if name == _MULTIPART:
        mark, content = multipart.build(fields, multipart.boundary(kind) if keep else None)
        return f"{name}; boundary={mark}", content
    raise Refused(f"unsupported content type {name}")


@function("kong.service.request.disable_tls")
def disable_tls(event: Event) -> Literal[True] | None:
    """Over HTTP there is nothing that it could switch off, and Kong says nothing."""
    return True if event.exchange.subsystem == "stream" else None
