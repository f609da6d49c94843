"""The record of a finished request that ``kong.log.serialize`` gives to log plugins."""

from __future__ import annotations

import time
from typing import Any

from kong_pdk.gateway.entities import WORKSPACE_ID
from kong_pdk.gateway.exchange import Exchange, RawHeaders
from kong_pdk.gateway.pdk import headers, query, stream
from kong_pdk.gateway.pdk.response import with_connection
from kong_pdk.gateway.stream.session import Session
from kong_pdk.wire.text import decode

_ALL = 1000
_CRLF = 2


def serialized(exchange: Exchange) -> dict[str, Any]:
    """The record of a request or of a stream's session, with what plugins have set in it."""
    record = stream.record(exchange) if isinstance(exchange, Session) else _record(exchange)
    record.update(_entities(exchange))
    _apply(record, list(exchange.serialize_values.values()))
    return record


def _record(exchange: Exchange) -> dict[str, Any]:
    answer = exchange.service_response
    return {
        "request": _request(exchange),
        "response": {
            "status": exchange.response.status,
            "headers": headers.get_all(with_connection(exchange), _ALL),
            "size": _response_size(exchange),
        },
        "latencies": _latencies(exchange),
        "client_ip": exchange.request.client_ip,
        "started_at": int(exchange.start_time * 1000),
        "source": "upstream" if exchange.response.source == "service" else "kong",
        "upstream_uri": _upstream_uri(exchange),
        "upstream_status": "" if answer is None else answer.status,
        "tries": exchange.tries,
        "workspace": WORKSPACE_ID,
        "workspace_name": "default",
    }


def _entities(exchange: Exchange) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if exchange.route is not None:
        found["route"] = exchange.route.to_dict()
    if exchange.service is not None:
        found["service"] = exchange.service.to_dict()
    if exchange.consumer is not None:
        found["consumer"] = exchange.consumer.to_dict()
    if exchange.credential is not None:
        found["authenticated_entity"] = {"id": exchange.credential.id}
    return found


def _request(exchange: Exchange) -> dict[str, Any]:
    request = exchange.request
    uri = decode(request.raw_path + (b"?" + request.raw_query if request.raw_query else b""))
    return {
        "id": exchange.request_id,
        "method": exchange.upstream.method,
        "uri": uri,
        "url": f"{request.scheme}://{request.host}:{request.port}{uri}",
        "querystring": query.parse(exchange.upstream.raw_query),
        "headers": headers.get_all(exchange.upstream.headers, _ALL),
        "size": _request_size(exchange),
    }


def _lines(fields: RawHeaders) -> int:
    """Bytes of a header block: ``name: value`` and the line's end, and the empty line."""
    return sum(len(name) + len(value) + 2 + _CRLF for name, value in fields) + _CRLF


def _length(fields: RawHeaders) -> int:
    text = headers.get(fields, "content-length") or ""
    return int(text) if text.isascii() and text.isdigit() else 0


def _request_size(exchange: Exchange) -> int:
    request = exchange.request
    target = len(request.raw_path) + (len(request.raw_query) + 1 if request.raw_query else 0)
    line = len(request.method) + 1 + target + len(f" HTTP/{request.http_version}") + _CRLF
    return line + _lines(request.headers) + _length(request.headers)


def _response_size(exchange: Exchange) -> int:
    response = exchange.response
    body = len(response.body) if response.body is not None else _length(response.headers)
    return len("HTTP/1.1 200 OK") + _CRLF + _lines(response.headers) + body


def _latencies(exchange: Exchange) -> dict[str, int]:
    """In milliseconds: in all, in the gateway, and waiting for the service (-1: it was not asked)."""
    total = max(0, int((time.time() - exchange.start_time) * 1000))
    proxy = exchange.upstream_latency
    if proxy is None:
        return {"request": total, "kong": total, "proxy": -1, "receive": 0}
    own = exchange.proxy_latency or 0
    return {"request": total, "kong": own, "proxy": proxy, "receive": max(0, total - own - proxy)}


def _upstream_uri(exchange: Exchange) -> str:
    if exchange.service_response is None:
        return ""
    upstream = exchange.upstream
    return decode(upstream.path + (b"?" + upstream.raw_query if upstream.raw_query else b""))


def _apply(record: dict[str, Any], changes: list[Any]) -> None:
    for mode, key, value in changes:
        *path, last = key.split(".")
        place = record
        for part in path:
            inner = place.get(part)
            if not isinstance(inner, dict):
                inner = place[part] = {}
            place = inner
        present = last in place
        if mode == "set" or present == (mode == "replace"):
            if value is None:
                place.pop(last, None)
            else:
                place[last] = value
