"""``kong.request.get_raw_body`` and ``get_body``, and how bodies of the usual types become tables."""

from __future__ import annotations

import json
from typing import Any

from kong_pdk.gateway.exchange import Body
from kong_pdk.gateway.pdk import headers, multipart, query
from kong_pdk.gateway.pdk.calls import MSGPACK, Event, function
from kong_pdk.gateway.pdk.checks import integer, maximum, string
from kong_pdk.gateway.pdk.request import current_headers
from kong_pdk.wire.pdk_values import RawBody
from kong_pdk.wire.text import decode, encode

_EXACT_DIGITS = 15


async def _body(event: Event) -> Body:
    changed = event.exchange.upstream.body
    return Body(changed) if changed is not None else await event.exchange.request.read_body()


@function("kong.request.get_raw_body")
async def get_raw_body(event: Event) -> bytes | RawBody | None:
    """The body; of one that is in a file, its path over ProtoBuf:1 and nothing over MsgPack:1."""
    body = await _body(event)
    if body.file is None:
        return body.content
    return None if event.protocol == MSGPACK else RawBody(path=str(body.file))


@function("kong.request.get_body")
async def get_body(event: Event, mimetype: object = None, max_args: object = None, max_file_size: object = None) -> Any:
    """The body as a table, or None: of another type, not well-formed, or too large to be in memory."""
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
    return parse(kind, content, most)


def parse(kind: str, content: bytes, max_args: int) -> Any:
    """A body of a Content-Type as a table; None where Kong gives an error."""
    name = kind.partition(";")[0].strip().lower()
    if name == "application/x-www-form-urlencoded":
        return query.parse(content, max_args)
    if name == "application/json":
        return _json(content)
    if name == "multipart/form-data":
        return multipart.parse(kind, content)
    return None


def _json(content: bytes) -> Any:
    """A JSON table; None for what is none, half a surrogate pair in it included, which no Lua string can hold."""
    try:
        value = json.loads(decode(content), parse_int=_lua_number)
        encode(json.dumps(value, ensure_ascii=False))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, (dict, list)) else None


def _lua_number(text: str) -> int | float:
    """Lua's numbers are doubles: what has more digits than those loses some."""
    return int(text) if len(text) <= _EXACT_DIGITS else float(text)
