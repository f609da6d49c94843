"""Kong's vaults: parses references such as ``{vault://env/name/key}`` and resolves them to secrets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard
from urllib.parse import parse_qsl, unquote, urlsplit

from kong_pdk.gateway.entities import Vault
from kong_pdk.wire.text import decode

REFERENCES = "$refs"
"""The field of a table in which Kong keeps the references that it has resolved in this table."""
ENV = "env"
"""The only kind of vault in this gateway: environment variables."""

_START, _END = "{vault://", "}"


class Unresolved(Exception):
    """A reference cannot be resolved; the message says why."""


@dataclass(frozen=True)
class Reference:
    """The parts of a reference. ``vault`` is the prefix of a configured vault, or a kind of vault."""

    vault: str
    resource: str
    key: str | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    version: int | None = None

    @classmethod
    def parse(cls, text: str) -> Reference | None:
        """Parse a reference; None if it is not one, or names no resource."""
        if not is_reference(text):
            return None
        try:
            address = urlsplit(text[1:-1])
        except ValueError:
            return None
        resource, _, key = unquote(address.path.removeprefix("/")).rpartition("/")
        if not resource:
            resource, key = key, ""
        if not address.netloc or not resource:
            return None
        numbered = address.fragment.isascii() and address.fragment.isdigit()
        return cls(
            vault=address.netloc,
            resource=resource,
            key=key or None,
            config=dict(parse_qsl(address.query, keep_blank_values=True)),
            version=int(address.fragment) if numbered else None,
        )


def is_reference(value: object) -> TypeGuard[str]:
    """Whether a value looks like a reference, by the rule of ``kong.vault.is_reference``."""
    return isinstance(value, str) and value.startswith(_START) and value.endswith(_END)


class Vaults:
    """The vaults of a configuration by prefix, and the vault ``env``, which needs no configuration."""

    def __init__(self, vaults: Iterable[Vault]) -> None:
        self._by_prefix = {vault.prefix: vault for vault in vaults}

    def secret(self, text: str) -> str:
        """The secret of a reference. Raises :class:`Unresolved`."""
        reference = Reference.parse(text)
        if reference is None:
            raise Unresolved("not a reference with a vault and the name of a secret")
        value = os.environb.get(os.fsencode(self._variable(reference)))
        if value is None:
            raise Unresolved("no value found")
        return decode(value) if reference.key is None else _json_member(decode(value), reference.key)

    def _variable(self, reference: Reference) -> str:
        vault = self._by_prefix.get(reference.vault)
        kind = reference.vault if vault is None else vault.name
        if vault is None and kind != ENV:
            raise Unresolved(f"could not find vault ({kind})")
        if kind != ENV:
            raise Unresolved(f"the embedded gateway has no vault of the kind {kind}, only {ENV}")
        configured = os.environ.get("KONG_VAULT_ENV_PREFIX", "") if vault is None else vault.config.get("prefix") or ""
        prefix = reference.config.get("prefix") or str(configured)
        return (prefix + reference.resource).upper().replace("-", "_")


def _json_member(secret: str, key: str) -> str:
    """One string of a secret that is a JSON object."""
    try:
        value = json.loads(secret)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Unresolved(f"its value is not a JSON object, so it has no subfield {key}")
    if key not in value:
        raise Unresolved(f"subfield {key} not found in JSON secret")
    if not isinstance(value[key], str):
        raise Unresolved(f"subfield {key} of the JSON secret is not a string")
    return str(value[key])


@dataclass
class Resolver:
    """Replaces the references in a plugin's configuration by their secrets.

    As in Kong, a reference that cannot be resolved becomes an empty string; ``warnings`` gets a message for it.
    """

    vaults: Vaults
    warnings: list[str] = field(default_factory=list)

    def resolve(self, fields: Iterable[Mapping[str, Any]], config: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration with the references in ``referenceable`` fields of its schema resolved.

        A record with references gets a field ``$refs`` with the references by field name.
        """
        known = {name: definition for entry in fields for name, definition in entry.items()}
        resolved, references = dict(config), {}
        for name, value in config.items():
            if name in known:
                resolved[name], reference = self._value(known[name], value)
                if reference is not None:
                    references[name] = reference
        return {**resolved, REFERENCES: references} if references else resolved

    def _value(self, definition: Mapping[str, Any], value: Any) -> tuple[Any, Any]:
        """A value with its references resolved, and the references in the value's shape, None if there are none."""
        if isinstance(value, dict) and "values" in definition:
            members = {name: self._single(definition["values"], each) for name, each in value.items()}
            references = {name: reference for name, (_, reference) in members.items() if reference is not None}
            return {name: each for name, (each, _) in members.items()}, references or None
        if isinstance(value, list) and "elements" in definition:
            entries = [self._single(definition["elements"], each) for each in value]
            return [each for each, _ in entries], _trim([reference for _, reference in entries])
        return self._single(definition, value)

    def _single(self, definition: Mapping[str, Any], value: Any) -> tuple[Any, Any]:
        """The same for a string or a record. As in Kong, references in a list inside a list are not resolved."""
        if isinstance(value, dict) and definition.get("type") == "record":
            return self.resolve(definition.get("fields", ()), value), None
        if definition.get("referenceable") and is_reference(value):
            return self._secret(value), value
        return value, None

    def _secret(self, reference: str) -> str:
        try:
            return self.vaults.secret(reference)
        except Unresolved as error:
            self.warnings.append(f"unable to resolve reference {reference} ({error})")
            return ""


def _trim(references: list[Any]) -> list[Any] | None:
    """The references of a list without nulls at its end, as Lua's table becomes JSON; None if there are none."""
    last = max((at for at, reference in enumerate(references, 1) if reference is not None), default=0)
    return references[:last] or None
