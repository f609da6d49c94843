"""``kong.service``, ``kong.service.request`` and ``kong.service.response``: the upstream's request and response."""

from __future__ import annotations

import json
from typing import Any, Literal

from kong_pdk.gateway import paths
from kong_pdk.gateway.exchange import Refused, UpstreamRequest
from kong_pdk.gateway.pdk import forms, headers
from kong_pdk.gateway.pdk.checks import integer, lua_type, maximum, string, table
from kong_pdk.gateway.pdk.dispatch import Event, function
from kong_pdk.gateway.pdk.kong_request import parse_body
from kong_pdk.wire.text import decode, encode

_MAX_TIMEOUT = 2**31 - 2  # milliseconds


@function("kong.service.set_upstream")
def set_upstream(event: Event, host: object = None) -> bool | None:
    """Send the request to an upstream, as if its name were the service's host; None if it does not exist.

    The Host header is the target's host, or the upstream's ``host_header``.
    """
    name = string("host", host)
    exchange = event.exchange
    if name not in exchange.node.config.upstreams_by_name:
        return None
    exchange.upstream.upstream_name = name
    return True


@function("kong.service.set_target")
def set_target(event: Event, host: object = None, port: object = None) -> None:
    upstream = event.exchange.upstream
    name = string("host", host)
    upstream.port = integer("port", port, 0, 65535)
    upstream.host = name
    upstream.host_header = name
    upstream.upstream_name = None


@function("kong.service.set_retries")
def set_retries(event: Event, retries: object = None) -> None:
    event.exchange.upstream.retries = integer("retries", retries, 0, 32767)


@function("kong.service.set_timeouts")
def set_timeouts(event: Event, connect: object = None, write: object = None, read: object = None) -> None:
    """Set the three timeouts in milliseconds."""
    upstream = event.exchange.upstream
    timeouts = (("connect_timeout", connect), ("write_timeout", write), ("read_timeout", read))
    seconds = [integer(name, value, 1, _MAX_TIMEOUT) / 1000 for name, value in timeouts]
    upstream.connect_timeout, upstream.write_timeout, upstream.read_timeout = seconds


@function("kong.service.set_tls_verify")
def set_tls_verify(event: Event, on: object = None) -> bool:
    if not isinstance(on, bool):
        raise Refused(f"argument must be a boolean, got {lua_type(on)}")
    event.exchange.upstream.tls_verify = on
    return True


@function("kong.service.set_tls_verify_depth")
def set_tls_verify_depth(event: Event, depth: object = None) -> bool:
    event.exchange.upstream.tls_verify_depth = integer("depth", depth, 0, 100)
    return True


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
    event.exchange.upstream.raw_query = forms.build(table("args", args))


@function("kong.service.request.clear_query_arg")
def clear_query_arg(event: Event, name: object = None) -> None:
    upstream = event.exchange.upstream
    upstream.raw_query = forms.without(upstream.raw_query, string("query argument name", name))


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
def set_headers(event: Event, headers_table: object = None) -> None:
    for name, new in headers.checked(table("headers", headers_table)):
        _put(event, name, new)


def _put(event: Event, name: str, new: list[bytes]) -> None:
    upstream = event.exchange.upstream
    if name.lower() == "host" and new:
        upstream.host_header = decode(new[0])
        if event.phase == "rewrite":
            # nginx's $host changes with the header, and X-Forwarded-Host is set from it when the route is found.
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
    """Encode a table as the body; None if neither the argument nor a header has a Content-Type."""
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
        return name, forms.build(fields)
    if name == _JSON:
        return name, encode(json.dumps(fields, separators=(",", ":"), ensure_ascii=False))
    if name == _MULTIPART:
        boundary, content = forms.build_multipart(fields, forms.boundary(kind) if keep else None)
        return f"{name}; boundary={boundary}", content
    raise Refused(f"unsupported content type {name}")


@function("kong.service.request.disable_tls")
def disable_tls(event: Event) -> Literal[True] | None:
    """Turn off TLS to the service. In HTTP phases it does nothing and returns no value, as in Kong."""
    return True if event.exchange.subsystem == "stream" else None


@function("kong.service.response.get_status")
def get_status(event: Event) -> int | None:
    answer = event.exchange.service_response
    return None if answer is None else answer.status


@function("kong.service.response.get_header")
def get_header(event: Event, name: object = None) -> str | None:
    header = string("header name", name)
    answer = event.exchange.service_response
    return None if answer is None else headers.get(answer.headers, header)


@function("kong.service.response.get_headers")
def get_headers(event: Event, max_headers: object = None) -> dict[str, str | list[str]]:
    """The headers of the response; none if it is buffered, since Kong's encoders do not read their metatable."""
    most = maximum("max_headers", max_headers)
    answer = event.exchange.service_response
    if answer is None or answer.body is not None:
        return {}
    return headers.get_all(answer.headers, most)


@function("kong.service.response.get_raw_body")
def get_raw_body(event: Event) -> bytes | None:
    """The body of a buffered response; empty without buffering."""
    answer = event.exchange.service_response
    return b"" if answer is None or answer.body is None else answer.body


@function("kong.service.response.get_body")
def get_body(event: Event, mimetype: object = None, max_args: object = None) -> Any:
    most = maximum("max_args", max_args)
    answer = event.exchange.service_response
    if answer is None or answer.body is None:
        return None
    kind = headers.get(answer.headers, "content-type") if mimetype is None else string("mimetype", mimetype)
    return None if kind is None else parse_body(kind, answer.body, most)
