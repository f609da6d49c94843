"""``kong.log``: lines in Kong's error log, and the record of a request for log plugins."""

from __future__ import annotations

import json
import time
from typing import Any

from kong_pdk.gateway.entities import WORKSPACE_ID
from kong_pdk.gateway.exchange import Exchange, RawHeaders, Refused
from kong_pdk.gateway.pdk import forms, headers, stream_values
from kong_pdk.gateway.pdk.checks import lua_type, string
from kong_pdk.gateway.pdk.dispatch import Event, function
from kong_pdk.gateway.pdk.kong_response import with_connection
from kong_pdk.gateway.pdk.lua_values import tostring
from kong_pdk.gateway.stream.session import Session
from kong_pdk.wire.text import decode

_MAX_HEADERS = 1000
_CRLF_BYTES = 2


_LEVELS = {
    "kong.log": "notice",
    "kong.log.debug": "debug",
    "kong.log.info": "info",
    "kong.log.notice": "notice",
    "kong.log.warn": "warn",
    "kong.log.err": "error",
    "kong.log.crit": "crit",
    "kong.log.alert": "alert",
}


def _log_writer(level: str) -> Any:
    def write(event: Event, *args: object) -> None:
        event.log(level, "".join(tostring(item) for item in args))

    return write


for _name, _level in _LEVELS.items():
    function(_name)(_log_writer(_level))


@function("kong.log.inspect")
def inspect(event: Event, *args: object) -> None:
    """Log values. ``kong.log.inspect.off`` turns it off, ``kong.log.inspect.on`` on again."""
    if event.exchange.node.inspect_switch.on:
        event.log("notice", " ".join(json.dumps(item, ensure_ascii=False) for item in args))


@function("kong.log.inspect.on")
def inspect_on(event: Event) -> None:
    event.exchange.node.inspect_switch.on = True


@function("kong.log.inspect.off")
def inspect_off(event: Event) -> None:
    event.exchange.node.inspect_switch.on = False


@function("kong.log.deprecation")
def deprecation(event: Event, *args: object) -> None:
    """Log a deprecation. A table as the last argument has versions, and is not logged."""
    shown = args[:-1] if args and isinstance(args[-1], dict) else args
    event.log("warn", "".join(tostring(item) for item in shown))


def serialized(exchange: Exchange) -> dict[str, Any]:
    """The record of a request or of a TCP session, with the values that plugins have set in it."""
    record = stream_values.record(exchange) if isinstance(exchange, Session) else _record(exchange)
    record.update(_entities(exchange))
    _apply(record, list(exchange.serialize_values.values()))
    return record


def _record(exchange: Exchange) -> dict[str, Any]:
    answer = exchange.service_response
    return {
        "request": _request(exchange),
        "response": {
            "status": exchange.response.status,
            "headers": headers.get_all(with_connection(exchange), _MAX_HEADERS),
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
    entities: dict[str, Any] = {}
    if exchange.route is not None:
        entities["route"] = exchange.route.to_dict()
    if exchange.service is not None:
        entities["service"] = exchange.service.to_dict()
    if exchange.consumer is not None:
        entities["consumer"] = exchange.consumer.to_dict()
    if exchange.credential is not None:
        entities["authenticated_entity"] = {"id": exchange.credential.id}
    return entities


def _request(exchange: Exchange) -> dict[str, Any]:
    request = exchange.request
    uri = decode(request.raw_path + (b"?" + request.raw_query if request.raw_query else b""))
    return {
        "id": exchange.request_id,
        "method": exchange.upstream.method,
        "uri": uri,
        "url": f"{request.scheme}://{request.host}:{request.port}{uri}",
        "querystring": forms.parse(exchange.upstream.raw_query),
        "headers": headers.get_all(exchange.upstream.headers, _MAX_HEADERS),
        "size": _request_size(exchange),
    }


def _block_size(fields: RawHeaders) -> int:
    """Bytes of a header block: lines ``name: value`` and an empty line."""
    return sum(len(name) + len(value) + 2 + _CRLF_BYTES for name, value in fields) + _CRLF_BYTES


def _length(fields: RawHeaders) -> int:
    text = headers.get(fields, "content-length") or ""
    return int(text) if text.isascii() and text.isdigit() else 0


def _request_size(exchange: Exchange) -> int:
    request = exchange.request
    target = len(request.raw_path) + (len(request.raw_query) + 1 if request.raw_query else 0)
    line = len(request.method) + 1 + target + len(f" HTTP/{request.http_version}") + _CRLF_BYTES
    return line + _block_size(request.headers) + _length(request.headers)


def _response_size(exchange: Exchange) -> int:
    response = exchange.response
    body = len(response.body) if response.body is not None else _length(response.headers)
    return len("HTTP/1.1 200 OK") + _CRLF_BYTES + _block_size(response.headers) + body


def _latencies(exchange: Exchange) -> dict[str, int]:
    """Milliseconds in total, in the gateway, waiting for the service (-1 if it got no request), and receiving."""
    total = max(0, int((time.time() - exchange.start_time) * 1000))
    proxy = exchange.upstream_latency
    if proxy is None:
        return {"request": total, "kong": total, "proxy": -1, "receive": 0}
    gateway = exchange.proxy_latency or 0
    return {"request": total, "kong": gateway, "proxy": proxy, "receive": max(0, total - gateway - proxy)}


def _upstream_uri(exchange: Exchange) -> str:
    if exchange.service_response is None:
        return ""
    upstream = exchange.upstream
    return decode(upstream.path + (b"?" + upstream.raw_query if upstream.raw_query else b""))


def _apply(record: dict[str, Any], changes: list[Any]) -> None:
    for mode, key, value in changes:
        *path, last = key.split(".")
        table = record
        for part in path:
            inner = table.get(part)
            if not isinstance(inner, dict):
                inner = table[part] = {}
            table = inner
        exists = last in table
        if mode == "set" or exists == (mode == "replace"):
            if value is None:
                table.pop(last, None)
            else:
                table[last] = value


@function("kong.log.set_serialize_value")
def set_serialize_value(event: Event, key: object = None, value: object = None, options: object = None) -> None:
    """Set, add or replace a value in the record. Dots in the key separate levels of the record."""
    name = string("key", key)
    mode = options.get("mode", "set") if isinstance(options, dict) else "set"
    if mode not in {"set", "add", "replace"}:
        raise Refused("mode must be 'set', 'add' or 'replace'")
    if value is not None and lua_type(value) not in {"number", "string", "boolean", "table"}:
        raise Refused("value must be nil, a number, string, boolean or a table")
    event.exchange.serialize_values[f"{len(event.exchange.serialize_values)}:{name}"] = (mode, name, value)


@function("kong.log.serialize")
def serialize(event: Event) -> str:
    return json.dumps(serialized(event.exchange), separators=(",", ":"), ensure_ascii=False)
