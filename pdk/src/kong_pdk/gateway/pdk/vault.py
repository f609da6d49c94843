"""``kong.vault``: references to secrets. The embedded gateway has one vault, that of environment variables."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from kong_pdk.gateway.exchange import Refused
from kong_pdk.gateway.pdk.calls import Event, function
from kong_pdk.gateway.pdk.checks import lua_type, table
from kong_pdk.wire.text import decode

_START, _END = "{vault://", "}"
_REFERENCES = "$refs"


@function("kong.vault.is_reference")
def is_reference(event: Event, reference: object = None) -> bool:
    return isinstance(reference, str) and reference.startswith(_START) and reference.endswith(_END)


@function("kong.vault.parse_reference")
def parse_reference(event: Event, reference: object = None) -> dict[str, Any] | None:
    """The parts of a reference; None where it is none, or names no resource."""
    return _parts(reference) if isinstance(reference, str) else None


def _parts(reference: str) -> dict[str, Any] | None:
    if not (reference.startswith(_START) and reference.endswith(_END)):
        return None
    try:
        address = urlsplit(reference[1:-1])
    except ValueError:
        return None
    resource, _, key = unquote(address.path.removeprefix("/")).rpartition("/")
    if not resource:
        resource, key = key, ""
    if not address.netloc or not resource:
        return None
    parts: dict[str, Any] = {"name": address.netloc, "resource": resource}
    if key:
        parts["key"] = key
    config = dict(parse_qsl(address.query, keep_blank_values=True))
    if config:
        parts["config"] = config
    if address.fragment.isascii() and address.fragment.isdigit():
        parts["version"] = int(address.fragment)
    return parts


@function("kong.vault.get")
def get(event: Event, reference: object = None) -> str | None:
    """The secret behind a reference; None where there is none, or the vault is another than ``env``."""
    return _secret(reference) if isinstance(reference, str) else None


def _secret(reference: str) -> str | None:
    parts = _parts(reference)
    if parts is None or parts["name"] != "env":
        return None
    prefix = parts.get("config", {}).get("prefix") or os.environ.get("KONG_VAULT_ENV_PREFIX", "")
    name = (prefix + parts["resource"]).upper().replace("-", "_")
    value = os.environb.get(os.fsencode(name))
    if value is None:
        return None
    return decode(value) if "key" not in parts else _member(decode(value), parts["key"])


def _member(secret: str, key: str) -> str | None:
    """One of the strings of a secret that is a JSON object."""
    try:
        found = json.loads(secret).get(key)
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


@function("kong.vault.update")
def update(event: Event, options: object = None) -> dict[str, Any]:
    """A table with the secrets to which its ``$refs`` refer; what has none keeps its value."""
    given = table("options", options)
    references = given.get(_REFERENCES)
    found = {name: _secret(text) for name, text in _texts(references).items()}
    return {**given, **{name: secret for name, secret in found.items() if secret is not None}}


def _texts(references: object) -> dict[str, str]:
    if not isinstance(references, dict):
        return {}
    return {name: text for name, text in references.items() if isinstance(text, str)}


@function("kong.vault.warmup")
def warmup(event: Event, options: object = None) -> None:
    """Kong reads the secrets of a table ahead; a variable of the environment needs no such thing."""
    if not isinstance(options, (dict, list)):
        raise Refused(f"options must be a table, got {lua_type(options)}")


@function("kong.vault.flush")
def flush(event: Event) -> None:
    """Kong forgets the secrets that it has read; none are kept here."""
    return
