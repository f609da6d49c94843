"""Lets through only requests with a valid bearer token (JWT). See docs/plugins/py-bearer-token.md."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import kong_pdk.pdk.plain as kong

from .key_source import NoKeys, Source, key_source
from .keys import ALGORITHMS, Key, UnusableKey, key_of_text, keys_of_set
from .verification import InvalidToken, Verifier

_NAME = {"type": "string", "match": "^[%w_.:/-]+$"}  # of a claim
_SECONDS = {"type": "number", "required": True}

Schema = [
    {
        "algorithms": {
            "type": "set",
            "elements": {"type": "string", "one_of": list(ALGORITHMS)},
            "required": True,
            "len_min": 1,
        }
    },
    {
        "keys": {
            "type": "array",
            "elements": {
                "type": "record",
                "fields": [
                    {"kid": {"type": "string"}},
                    {"key": {"type": "string", "required": True, "referenceable": True, "encrypted": True}},
                ],
            },
        }
    },
    {"jwks": {"type": "string", "referenceable": True, "encrypted": True}},
    {"jwks_uri": {"type": "string", "match": "^https://[^%s@]+$"}},
    {"jwks_timeout": {**_SECONDS, "default": 5, "between": [0.1, 60]}},
    {"jwks_lifetime": {**_SECONDS, "default": 300, "between": [1, 86400]}},
    {"jwks_pause": {**_SECONDS, "default": 30, "between": [1, 3600]}},
    {"jwks_max_age": {**_SECONDS, "default": 86400, "between": [1, 2592000]}},
    {"audience": {"type": "array", "elements": {"type": "string"}}},
    {"issuer": {"type": "array", "elements": {"type": "string"}}},
    {"leeway": {**_SECONDS, "default": 0, "between": [0, 600]}},
    {"require_exp": {"type": "boolean", "required": True, "default": True}},
    {"required_claims": {"type": "array", "elements": _NAME, "required": True, "default": []}},
    {"scopes_required": {"type": "array", "elements": {"type": "string", "match": "^[%w!#-/:-@%[%]^_`{|}~]+$"}}},
    {"scopes_claim": {**_NAME, "required": True, "default": "scope"}},
    {"consumer_claim": _NAME},
    {"consumer_by": {"type": "string", "required": True, "default": "username", "one_of": ["username", "id"]}},
    {"consumer_optional": {"type": "boolean", "required": True, "default": False}},
    {"credential_claim": {**_NAME, "required": True, "default": "sub"}},
    {
        "upstream_headers": {
            "type": "map",
            "keys": {"type": "string", "match": "^[%w-]+$"},
            "values": _NAME,
            "required": True,
            "default": {"X-Authenticated-Subject": "sub"},
        }
    },
    {"hide_credentials": {"type": "boolean", "required": True, "default": False}},
    {"anonymous": {"type": "string"}},
    {"run_on_preflight": {"type": "boolean", "required": True, "default": True}},
    {"realm": {"type": "string", "required": True, "default": "kong", "match": "^[%w ._:/-]+$"}},
    {"max_token_bytes": {"type": "integer", "required": True, "default": 16384, "between": [100, 1048576]}},
]
version = "1.0.0"
# The priority of Kong's own jwt: before plugins that limit and authorise.
priority = 1450
lua_style = False

_MOST_HEADERS = 1000  # Kong gives no more
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_CONSUMER_HEADERS = {"id": "X-Consumer-ID", "custom_id": "X-Consumer-Custom-ID", "username": "X-Consumer-Username"}
_CREDENTIAL = "X-Credential-Identifier"
_ANONYMOUS = "X-Anonymous-Consumer"
_IDENTITY = frozenset(name.lower() for name in (*_CONSUMER_HEADERS.values(), _CREDENTIAL, _ANONYMOUS))
_MESSAGES = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 503: "Service Unavailable"}

Headers = Mapping[str, list[str]]


class Refusal(Exception):
    """Ends the request with a status and, if there is one, an error of RFC 6750."""

    def __init__(self, status: int, error: str | None = None, description: str = "", scope: str = "") -> None:
        super().__init__(description or _MESSAGES[status])
        self.status = status
        self.attributes = {"error": error, "error_description": description, "scope": scope} if error else {}


class Plugin:
    """One configuration. Only the keys of a URL change after ``__init__``, and they have a lock of their own."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._claims_sent: dict[str, str] = config["upstream_headers"]
        self._names_sent = frozenset(name.lower() for name in self._claims_sent)
        self._scopes: list[str] = config.get("scopes_required") or []
        keys, source = _configured_keys(config), None
        if config.get("jwks_uri"):
            times = (config[f"jwks_{name}"] for name in ("timeout", "lifetime", "pause", "max_age"))
            source = key_source(Source(config["jwks_uri"], tuple(sorted(config["algorithms"])), *times))
            source.prepare()
        if not keys and source is None:
            raise ValueError("there is nothing to verify tokens with; configure keys, jwks or jwks_uri")
        self._verifier = Verifier(config, keys, source)

    def access(self, kong: kong.kong) -> None:
        try:
            self._check(kong)
        except Refusal as refusal:
            self._answer(kong, refusal)

    def _check(self, kong: kong.kong) -> None:
        headers = kong.request.get_headers(_MOST_HEADERS)
        anonymous = self._config.get("anonymous")
        # With ``anonymous``, as in Kong, one of several authentication plugins is enough.
        done = bool(anonymous and kong.client.get_credential())
        _clear(kong, headers, self._names_sent if done else self._names_sent | _IDENTITY)
        if done or (not self._config["run_on_preflight"] and kong.request.get_method() == "OPTIONS"):
            return
        token = _bearer_token(headers)
        if token is not None:
            self._accept(kong, token)
        elif anonymous:
            self._authenticate(kong, _anonymous_consumer(kong, anonymous), None, {_ANONYMOUS: "true"})
        else:
            raise Refusal(401)

    def _accept(self, kong: kong.kong, token: str) -> None:
        try:
            claims = self._verifier.claims(token)
        except InvalidToken as error:
            raise Refusal(401, "invalid_token", str(error)) from None
        except NoKeys:
            raise Refusal(503) from None
        if missing := set(self._scopes) - _scopes(_claim(claims, self._config["scopes_claim"])):
            description = f"The token lacks the scope {' '.join(sorted(missing))}"
            raise Refusal(403, "insufficient_scope", description, " ".join(self._scopes))
        sent = {}
        for header, name in self._claims_sent.items():
            if (text := _header_text(name, _claim(claims, name))) is not None:
                sent[header] = text
        consumer = self._consumer(kong, claims)
        credential = _claim(claims, self._config["credential_claim"])
        if not isinstance(credential, str) or not _is_plain(credential):
            credential = hashlib.sha256(token.encode()).hexdigest()
        self._authenticate(kong, consumer, credential, sent)
        if self._config["hide_credentials"]:
            kong.service.request.clear_header("Authorization")

    def _consumer(self, kong: kong.kong, claims: Mapping[str, Any]) -> dict[str, Any] | None:
        """Load the consumer of a claim, and check that the configured field is equal to the claim."""
        if not self._config.get("consumer_claim"):
            return None
        name, by = _claim(claims, self._config["consumer_claim"]), self._config["consumer_by"]
        if isinstance(name, str) and _is_plain(name) and (by == "username" or _UUID.fullmatch(name)):
            name = name if by == "username" else name.lower()
            found = kong.client.load_consumer(name, by == "username")
            if found and found.get(by) == name:
                return dict(found)
        if self._config["consumer_optional"]:
            return None
        raise Refusal(403)

    def _authenticate(
        self, kong: kong.kong, consumer: dict[str, Any] | None, credential: str | None, sent: dict[str, str]
    ) -> None:
        """Set Kong's consumer, if there is one, and the headers for the service."""
        if consumer is not None:
            known = {"id": credential, "consumer_id": consumer["id"]} if credential else None
            kong.client.authenticate(consumer, known)
            names = {header: consumer.get(name) for name, header in _CONSUMER_HEADERS.items()}
            sent = {**{header: text for header, text in names.items() if text}, **sent}
            sent |= {_CREDENTIAL: credential} if credential else {}
        if sent:
            kong.service.request.set_headers(sent)

    def _answer(self, kong: kong.kong, refusal: Refusal) -> None:
        """Answer in Kong's format, with the challenge of RFC 6750."""
        kong.log.info(f"refused with {refusal.status}: {refusal}")
        headers = {}
        if refusal.status == 503:
            headers["Retry-After"] = "5"
        elif refusal.attributes or refusal.status == 401:
            attributes = {"realm": self._config["realm"], **refusal.attributes}
            headers["WWW-Authenticate"] = "Bearer " + ", ".join(f'{k}="{v}"' for k, v in attributes.items() if v)
        kong.response.exit(refusal.status, {"message": _MESSAGES[refusal.status]}, headers)


def _configured_keys(config: Mapping[str, Any]) -> list[Key]:
    """Read the keys of the configuration.

    :raises ValueError: a key cannot be used.
    """
    algorithms, position = config["algorithms"], 0
    try:
        keys: list[Key] = []
        for position, entry in enumerate(config.get("keys") or [], start=1):  # noqa: B007  # for the message
            keys.append(key_of_text(entry["key"], entry.get("kid"), algorithms))
    except UnusableKey as error:
        raise ValueError(f"in keys, key {position} {error}") from None
    if not config.get("jwks"):
        return keys
    try:
        found, faults = keys_of_set(config["jwks"], algorithms, public=False)
    except UnusableKey as error:
        raise ValueError(f"jwks cannot be used: {error}") from None
    if faults or not found:
        raise ValueError(f"in jwks, {faults[0] if faults else 'there is no key for signatures'}")
    return keys + found


def _bearer_token(headers: Headers) -> str | None:
    """Give the token of the Authorization header; None if there is no bearer token."""
    values = headers.get("authorization", [])
    if len(values) > 1:
        raise Refusal(400, "invalid_request", "There is more than one Authorization header")
    scheme, _, token = values[0].partition(" ") if values else ("", "", "")
    if scheme.lower() != "bearer":
        return None
    if not token.strip(" "):
        raise Refusal(400, "invalid_request", "The Authorization header has no token")
    return token.strip(" ")


def _clear(kong: kong.kong, headers: Headers, names: frozenset[str]) -> None:
    """Remove the client's headers with the names of ours.

    Many services treat ``_`` as ``-``. A name that differs from ours only in this is refused.
    """
    if sum(map(len, headers.values())) >= _MOST_HEADERS:
        raise Refusal(400, "invalid_request", "There are too many headers")
    for name in headers:
        if name in names:
            kong.service.request.clear_header(name)
        elif name.replace("_", "-") in names:
            raise Refusal(400, "invalid_request", "There is a header that only the gateway may send")


def _anonymous_consumer(kong: kong.kong, name: str) -> dict[str, Any]:
    found = kong.client.load_consumer(name, True)
    if not found:
        raise LookupError(f"there is no consumer {name!r}, which anonymous names")
    return dict(found)


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Give a claim by its name, or by a path with dots: ``realm_access.roles``."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for step in name.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _scopes(value: Any) -> set[str]:
    if isinstance(value, str):
        return set(value.split(" "))
    return {each for each in value if isinstance(each, str)} if isinstance(value, list) else set()


def _is_plain(text: str) -> bool:
    """Whether all services read a text in the same way from a header: no control characters, no space around it."""
    return text != "" and text.isprintable() and text == text.strip()


def _header_text(name: str, value: Any) -> str | None:
    """Give the header value of a claim: text unchanged, other values as JSON; None for no header."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        return json.dumps(value, separators=(",", ":"))
    if not _is_plain(value):
        raise Refusal(401, "invalid_token", f"The claim {name} cannot be sent in a header")
    return value
