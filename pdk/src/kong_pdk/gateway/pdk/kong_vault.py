"""``kong.vault``: references to secrets. The embedded gateway has only the vault ``env``."""

from __future__ import annotations

from typing import Any

from kong_pdk.gateway import vaults
from kong_pdk.gateway.exchange import Refused
from kong_pdk.gateway.pdk.checks import lua_type, table
from kong_pdk.gateway.pdk.dispatch import Event, function
from kong_pdk.gateway.vaults import Reference, Unresolved, Vaults


@function("kong.vault.is_reference")
def is_reference(event: Event, reference: object = None) -> bool:
    return vaults.is_reference(reference)


@function("kong.vault.parse_reference")
def parse_reference(event: Event, reference: object = None) -> dict[str, Any] | None:
    """The parts of a reference; None if it is not one, or names no resource."""
    parsed = Reference.parse(reference) if isinstance(reference, str) else None
    if parsed is None:
        return None
    parts = {"key": parsed.key, "config": parsed.config or None, "version": parsed.version}
    present = {name: part for name, part in parts.items() if part is not None}
    return {"name": parsed.vault, "resource": parsed.resource, **present}


@function("kong.vault.get")
def get(event: Event, reference: object = None) -> str | None:
    """The secret of a reference; None if there is none, or the vault is not of the kind ``env``."""
    return _secret(event, reference) if isinstance(reference, str) else None


def _secret(event: Event, reference: str) -> str | None:
    try:
        return Vaults(event.exchange.node.config.vaults).secret(reference)
    except Unresolved:
        return None


@function("kong.vault.update")
def update(event: Event, options: object = None) -> dict[str, Any]:
    """A table with the secrets of the references in its ``$refs``; unresolved fields keep their value."""
    options_table = table("options", options)
    references = options_table.get(vaults.REFERENCES)
    secrets = {name: _secret(event, text) for name, text in _string_references(references).items()}
    return {**options_table, **{name: secret for name, secret in secrets.items() if secret is not None}}


def _string_references(references: object) -> dict[str, str]:
    if not isinstance(references, dict):
        return {}
    return {name: text for name, text in references.items() if isinstance(text, str)}


@function("kong.vault.warmup")
def warmup(event: Event, options: object = None) -> None:
    """Check the argument. Kong caches the secrets of the table; environment variables need no cache."""
    if not isinstance(options, (dict, list)):
        raise Refused(f"options must be a table, got {lua_type(options)}")


@function("kong.vault.flush")
def flush(event: Event) -> None:
    """Do nothing: Kong clears its cache of secrets, and this gateway has none."""
    return
