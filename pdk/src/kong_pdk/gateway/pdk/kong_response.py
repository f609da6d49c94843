"""``kong.response``: the response to the client."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from kong_pdk.error_page import FORMS
from kong_pdk.gateway.error_responses import error_exit, grpc_headers
from kong_pdk.gateway.exchange import Exchange, Exit, RawHeaders, Refused
from kong_pdk.gateway.pdk import headers
from kong_pdk.gateway.pdk.checks import lua_type, maximum, string, table
from kong_pdk.gateway.pdk.checks import status as checked_status
from kong_pdk.gateway.pdk.dispatch import MSGPACK, Event, function
from kong_pdk.gateway.response_headers import may_have_body
from kong_pdk.wire.text import decode, encode

_JSON = b"application/json; charset=utf-8"
# The types to which nginx's charset module adds "charset=UTF-8".
_CHARSET_TYPES = frozenset(
    {
        b"text/html",
        b"text/xml",
        b"text/plain",
        b"text/vnd.wap.wml",
        b"application/javascript",
        b"application/rss+xml",
    }
)
# Headers that only the gateway sets.
_RESERVED = ("transfer-encoding",)


def with_connection(exchange: Exchange) -> RawHeaders:
    """The response's headers and the ``Connection`` that nginx adds when it sends them."""
    connection = (headers.get(exchange.request.headers, "connection") or "").lower()
    keeps_alive = connection == "keep-alive" if exchange.request.http_version == "1.0" else connection != "close"
    return [*exchange.response.headers, (b"connection", b"keep-alive" if keeps_alive else b"close")]


@function("kong.response.get_status")
def get_status(event: Event) -> int | None:
    return event.exchange.response.status


@function("kong.response.get_header")
def get_header(event: Event, name: object = None) -> str | None:
    return headers.get(with_connection(event.exchange), string("header name", name))


@function("kong.response.get_headers")
def get_headers(event: Event, max_headers: object = None) -> dict[str, str | list[str]]:
    return headers.get_all(with_connection(event.exchange), maximum("max_headers", max_headers))


@function("kong.response.get_source")
def get_source(event: Event) -> str:
    return event.exchange.response.source


@function("kong.response.set_status")
def set_status(event: Event, status: object = None) -> None:
    event.exchange.response.status = checked_status(status, 100)


@function("kong.response.set_header")
def set_header(event: Event, name: object = None, value: object = None) -> None:
    header = string("header", name)
    new = headers.values(header, value)
    if not _reserved(event, header):
        headers.put(event.exchange.response.headers, header, new)


@function("kong.response.add_header")
def add_header(event: Event, name: object = None, value: object = None) -> None:
    header = string("header", name)
    new = headers.values(header, value)
    if not _reserved(event, header):
        headers.append(event.exchange.response.headers, header, new)


@function("kong.response.clear_header")
def clear_header(event: Event, name: object = None) -> None:
    headers.remove(event.exchange.response.headers, string("header", name))


@function("kong.response.set_headers")
def set_headers(event: Event, headers_table: object = None) -> None:
    for name, new in headers.checked(table("headers", headers_table)):
        if not _reserved(event, name):
            headers.put(event.exchange.response.headers, name, new)


def _reserved(event: Event, name: str) -> bool:
    if name.lower() not in _RESERVED:
        return False
    event.log("warn", f"manually setting {name}. Ignored.")
    return True


@function("kong.response.exit")
def exit_(event: Event, status: object = None, body: object = None, headers_table: object = None) -> NoReturn:
    """Respond to the client. Over MsgPack:1, a response without a body gets nginx's own page."""
    code = checked_status(status, 100)
    fields = _headers(event, code, headers_table)
    is_grpc = _is_grpc(fields)
    fields += _grpc_headers(code, fields)
    content: bytes | None = b"" if event.protocol != MSGPACK or is_grpc else None
    if is_grpc and isinstance(body, (dict, list)):
        raise Refused("body must be a nil or a string where the Content-Type is gRPC's, got table")
    if isinstance(body, (dict, list)):
        content = encode(_json(body))
        if not any(name.lower() == b"content-type" for name, _ in fields):
            fields.append((b"Content-Type", _JSON))
    elif isinstance(body, str):
        content = encode(body)
    elif body is not None:
        raise Refused(f"body must be a nil, string or table, got {lua_type(body)}")
    raise Exit(code, content, fields)


@function("kong.response.error")
def error(event: Event, status: object = None, message: object = None, headers_table: object = None) -> NoReturn:
    """Respond to the client with an error; the default message is that of the status.

    A table as message is written as JSON into the error. The format is that of the header ``Content-Type`` (with
    exactly these capitals), or else one that the client accepts.
    """
    code = checked_status(status, 400)
    fields = _headers(event, code, headers_table)
    kind = _error_form(headers_table.get("Content-Type") if isinstance(headers_table, dict) else None)
    if isinstance(message, (dict, list)):
        message = _json(message)
    elif message is not None and not isinstance(message, str):
        raise Refused(f"message must be a nil, a string or a table, got {lua_type(message)}")
    elif message is None and status != code:
        message = f"The upstream server responded with {code}"  # Kong has no message for a status with a fraction
    answer = error_exit(event.exchange, code, message, content_type=kind)
    answer.headers = [(name, with_charset(value) if kind else value) for name, value in answer.headers] + [
        entry for entry in fields if entry[0].lower() != b"content-type"
    ]
    answer.headers += _grpc_headers(code, answer.headers)
    raise answer


def _grpc_headers(status: int, fields: RawHeaders) -> RawHeaders:
    """The headers that Kong adds to a response with a gRPC Content-Type, without those that it has already."""
    if not _is_grpc(fields):
        return []
    names = {name.lower() for name, _ in fields}
    return [pair for pair in grpc_headers(status) if pair[0] not in names]


def _is_grpc(fields: RawHeaders) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"application/grpc") for name, value in fields)


def _error_form(content_type: object) -> str | None:
    """The Content-Type for an error, None if there is none. Kong fails on a type that it has no format for."""
    kind = next(iter(content_type), None) if isinstance(content_type, list) else content_type
    if kind is None or (isinstance(kind, str) and kind in FORMS):
        return kind
    raise Refused(f"no form of an error for the Content-Type {kind!r}, only for {', '.join(FORMS)}")


def _json(value: dict[str, Any] | list[Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _headers(event: Event, status: int, headers_table: Any) -> RawHeaders:
    """The headers of ``exit`` and ``error``. If there is a body, the gateway sets its length itself."""
    fields: RawHeaders = []
    has_body = event.exchange.request.method != "HEAD" and may_have_body(status)
    for name, new in headers.checked({} if headers_table is None else table("headers", headers_table)):
        if _reserved(event, name):
            continue
        if name.lower() == "content-length":
            if new and not new[-1].isdigit():
                raise Refused(f"failed to set header {name}: {decode(new[-1])!r} is no length")
            if has_body:
                continue
            new = new[-1:]  # noqa: PLW2901 - of several, Kong takes the last
        is_content_type = name.lower() == "content-type"
        headers.put(fields, name, [with_charset(value) for value in new] if is_content_type else new)
    return fields


def with_charset(value: bytes) -> bytes:
    """A Content-Type with nginx's charset, if it is a text type without a charset."""
    kind = decode(value).partition(";")[0].strip().lower()
    if kind.encode("utf-8", "surrogateescape") in _CHARSET_TYPES and b"charset=" not in value.lower():
        return value + b"; charset=UTF-8"
    return value
