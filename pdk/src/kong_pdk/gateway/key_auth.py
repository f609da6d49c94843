"""Kong's plugin key-auth, the only bundled plugin that the embedded gateway has."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Collection
from typing import Any

from kong_pdk.gateway.entities import Consumer, Credential, PluginConfig
from kong_pdk.gateway.error_responses import error_exit
from kong_pdk.gateway.exchange import Exchange, RawHeaders

_FIELDS: tuple[dict[str, Any], ...] = (
    {
        "key_names": {
            "type": "array",
            "required": True,
            "elements": {"type": "string"},
            "default": ["apikey"],
        }
    },
    {"hide_credentials": {"type": "boolean", "required": True, "default": False}},
    {"anonymous": {"type": "string"}},
    {"key_in_header": {"type": "boolean", "required": True, "default": True}},
    {"key_in_query": {"type": "boolean", "required": True, "default": True}},
    {"key_in_body": {"type": "boolean", "required": True, "default": False}},
    {"run_on_preflight": {"type": "boolean", "required": True, "default": True}},
    {"realm": {"type": "string"}},
)
_ANONYMOUS = b"X-Anonymous-Consumer"


class _Denied(Exception):
    """The request has no key, several keys, or an unknown one."""


def _set_header(headers: RawHeaders, name: bytes, value: str | None) -> None:
    """Set a header of the request to the upstream; None removes it."""
    headers[:] = [pair for pair in headers if pair[0].lower() != name.lower()]
    if value is not None:
        headers.append((name, value.encode("utf-8", "surrogateescape")))


def _arguments(raw: bytes) -> list[tuple[str, str]]:
    text = raw.decode("utf-8", "surrogateescape")
    return urllib.parse.parse_qsl(text, keep_blank_values=True, errors="surrogateescape")


class KeyAuth:
    """Authenticates consumers by an API key in a header, the query or the body."""

    name = "key-auth"
    priority = 1250
    phases: Collection[str] = ("access",)
    fields = _FIELDS

    async def run(self, exchange: Exchange, plugin: PluginConfig, phase: str) -> None:
        """Authenticate the consumer. Raises Exit with 401 if this fails and anonymous access is not configured."""
        config = plugin.config
        if not config.get("run_on_preflight", True) and exchange.request.method == "OPTIONS":
            return
        anonymous = config.get("anonymous")
        if anonymous and exchange.credential is not None:
            return
        try:
            await self._authenticate(exchange, plugin)
        except _Denied as denied:
            if not anonymous:
                realm = config.get("realm")
                challenge = f'Key realm="{realm}"' if realm else "Key"
                headers = [(b"WWW-Authenticate", challenge.encode())]
                raise error_exit(exchange, 401, str(denied), headers) from None
            self._admit_anonymous(exchange, str(anonymous))

    async def _authenticate(self, exchange: Exchange, plugin: PluginConfig) -> None:
        key = await self._key(exchange, plugin)
        credential = exchange.node.config.credentials_by_key.get(key)
        consumer = None
        if credential is not None and credential.consumer_id is not None:
            consumer = exchange.node.config.consumers.get(credential.consumer_id)
        if consumer is None:
            raise _Denied("Unauthorized")
        self._admit(exchange, consumer, credential)

    async def _key(self, exchange: Exchange, plugin: PluginConfig) -> str:
        config = plugin.config
        names = config.get("key_names") or ["apikey"]
        assert isinstance(names, list)
        for name in map(str, names):
            keys = _in_headers(exchange, name) if config.get("key_in_header", True) else []
            if not keys and config.get("key_in_query", True):
                keys = [value for key, value in _arguments(exchange.upstream.raw_query) if key == name]
            if not keys and config.get("key_in_body"):
                keys = await _in_body(exchange, name)
            if len(keys) > 1:
                raise _Denied("Duplicate API key found")
            if keys and keys[0]:
                if config.get("hide_credentials"):
                    _hide_key(exchange, name)
                return keys[0]
        raise _Denied("No API key found in request")

    def _admit_anonymous(self, exchange: Exchange, anonymous: str) -> None:
        consumer = exchange.node.config.consumer(anonymous, search_by_username=True)
        if consumer is None:
            exchange.node.log.write("error", f"anonymous consumer {anonymous} is unknown or has no username")
            raise error_exit(exchange, 500)
        self._admit(exchange, consumer, None)

    def _admit(self, exchange: Exchange, consumer: Consumer, credential: Credential | None) -> None:
        exchange.consumer, exchange.credential = consumer, credential
        headers = exchange.upstream.headers
        _set_header(headers, b"X-Consumer-ID", consumer.id)
        _set_header(headers, b"X-Consumer-Custom-ID", consumer.custom_id)
        _set_header(headers, b"X-Consumer-Username", consumer.username)
        _set_header(headers, b"X-Credential-Identifier", credential.id if credential else None)
        _set_header(headers, _ANONYMOUS, None if credential else "true")


def _in_headers(exchange: Exchange, name: str) -> list[str]:
    lowered = name.lower().encode()
    return [
        value.decode("utf-8", "surrogateescape") for key, value in exchange.upstream.headers if key.lower() == lowered
    ]


async def _in_body(exchange: Exchange, name: str) -> list[str]:
    """The keys in a form or a JSON object. A body that is in a file is too large, and is ignored."""
    content_types = _in_headers(exchange, "content-type")
    body = await exchange.request.read_body()
    if not content_types or body.file is not None:
        return []
    if content_types[0].startswith("application/x-www-form-urlencoded"):
        return [value for key, value in _arguments(body.content) if key == name]
    if content_types[0].startswith("application/json"):
        try:
            fields = json.loads(body.content)
        except ValueError:
            return []
        value = fields.get(name) if isinstance(fields, dict) else None
        return [value] if isinstance(value, str) else []
    return []


def _hide_key(exchange: Exchange, name: str) -> None:
    """Remove the key from the request to the upstream."""
    _set_header(exchange.upstream.headers, name.encode(), None)
    parts = exchange.upstream.raw_query.split(b"&")
    kept = [part for part in parts if urllib.parse.unquote_to_bytes(part.partition(b"=")[0]) != name.encode()]
    exchange.upstream.raw_query = b"&".join(kept)


KEY_AUTH = KeyAuth()
