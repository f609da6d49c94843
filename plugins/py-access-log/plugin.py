"""Sends a line of JSON for each request to a collector: over HTTP, in batches, from a thread of its own.

Requests never wait for the collector. No line is lost while the queue has room, and a plugin server that ends sends its
queue.
"""

from __future__ import annotations

from typing import Any

import kong_pdk.pdk.plain as kong

from .collector import Collector
from .entry import Entries
from .sender import Sender

_TEXTS = {"type": "map", "keys": {"type": "string"}, "values": {"type": "string", "referenceable": True}}
_SECRET_HEADERS = ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "apikey"]
_SECRET_PARAMETERS = ["access_token", "id_token", "refresh_token", "token", "api_key", "apikey", "password", "secret"]

Schema = (
    {"endpoint": {"type": "string", "required": True, "match": "^https?://", "referenceable": True}},
    {"headers": {**_TEXTS, "default": {}}},
    {"fields": {"type": "array", "default": [], "elements": {"type": "string", "match": "^[^%s.][^%s]*$"}}},
    {"labels": {"type": "map", "default": {}, "keys": {"type": "string"}, "values": {"type": "string"}}},
    {"redact_headers": {"type": "array", "default": _SECRET_HEADERS, "elements": {"type": "string"}}},
    {"redact_parameters": {"type": "array", "default": _SECRET_PARAMETERS, "elements": {"type": "string"}}},
    {"batch_size": {"type": "integer", "required": True, "default": 100, "between": [1, 10000]}},
    {"batch_bytes": {"type": "integer", "required": True, "default": 1048576, "between": [1024, 16777216]}},
    {"flush_seconds": {"type": "number", "required": True, "default": 1, "between": [0, 3600]}},
    {"queue_size": {"type": "integer", "required": True, "default": 10000, "between": [1, 1000000]}},
    {"queue_bytes": {"type": "integer", "required": True, "default": 33554432, "between": [1024, 1073741824]}},
    {"timeout_seconds": {"type": "number", "required": True, "default": 10, "between": [0.1, 60]}},
    {"gzip": {"type": "boolean", "required": True, "default": False}},
    {"tls_verify": {"type": "boolean", "required": True, "default": True}},
    {"ca_file": {"type": "string"}},
)
version = "1.0.0"
# After the plugins whose values the entry contains.
priority = 3
lua_style = False


class Plugin:
    """One configuration: its collector and its queue."""

    def __init__(self, config: dict[str, Any]) -> None:
        """:raises ValueError: the endpoint, a header or the file of certificates is invalid."""
        self._entries = Entries(
            config.get("fields") or [],
            config.get("labels") or {},
            config.get("redact_headers") or [],
            config.get("redact_parameters") or [],
        )
        self._sender = Sender(Collector(config), config)

    def log(self, kong: kong.kong) -> None:
        """Queue the entry of a request."""
        self._sender.put(self._entries.line(kong.log.serialize()))
