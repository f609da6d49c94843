"""Resolves references between the entries of a declarative configuration, and builds the gateway's entities.

Ids, references and unique fields are checked first.
"""

from __future__ import annotations

import itertools
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from kong_pdk.gateway.declarative.core_schema import FOREIGN
from kong_pdk.gateway.declarative.document import Place
from kong_pdk.gateway.declarative.entries import Entry, Fault, split_target
from kong_pdk.gateway.entities import (
    Config,
    Consumer,
    Credential,
    PluginConfig,
    Route,
    Service,
    Target,
    Upstream,
    Vault,
)
from kong_pdk.masking import MASK

_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")

# The field that names an entity beside its id.
NAMES = {
    "services": "name",
    "routes": "name",
    "upstreams": "name",
    "consumers": "username",
    "keyauth_credentials": "key",
    "plugins": "instance_name",
    "vaults": "prefix",
}
_ALSO_UNIQUE = {"consumers": ("custom_id",)}
_SECRET = ("keyauth_credentials", "key")


def resolve(entries: list[Entry]) -> Iterator[Fault]:
    """Set every entry's ``id``, and ``<field>_id`` for each of its references; yield faults."""
    _assign_ids(entries)
    index = _index(entries)
    for entry in entries:
        yield from _references(entry, index)
    yield from _duplicates(entries)


def _assign_ids(entries: Iterable[Entry]) -> None:
    """Set the ids of entries without one. As in a DB-less Kong, the same file always gets the same ids."""
    for entry in entries:
        if entry.has_own_id:
            continue
        parents = [f"{name}={parent.values['id']}" for name, parent in sorted(entry.parents.items())]
        key = entry.values.get(NAMES.get(entry.kind, "target"))
        if entry.kind == "plugins":
            key = f"{entry.values.get('name')} {key} {entry.references}"
            if group := entry.values.get("consumer_group"):
                key += f" {group}"
        elif key is None:
            key = entry.place
        entry.values["id"] = str(uuid.uuid5(_NAMESPACE, f"{entry.kind}:{':'.join(parents)}:{key}"))


def _index(entries: Iterable[Entry]) -> dict[tuple[str, str], str]:
    """Ids by kind and by id or name."""
    index: dict[tuple[str, str], str] = {}
    for entry in entries:
        for key in (entry.values["id"], entry.values.get(NAMES.get(entry.kind, ""))):
            if isinstance(key, str):
                index.setdefault((entry.kind, key), entry.values["id"])
    return index


def _references(entry: Entry, index: dict[tuple[str, str], str]) -> Iterator[Fault]:
    for name, parent in entry.parents.items():
        entry.values[f"{name}_id"] = parent.values["id"]
    for name, written in entry.references.items():
        kind = FOREIGN[entry.kind][name]
        target = _referenced_key(written)
        if target is None:
            yield Fault((*entry.place, name), "expected a string or a record with an id")
            continue
        target_id = index.get((kind, target))
        if target_id is None:
            yield Fault(
                (*entry.place, name),
                f"invalid reference '{name}: {target}' (no such entry in '{kind}')",
            )
        else:
            entry.values[f"{name}_id"] = target_id
    if entry.kind in {"targets", "keyauth_credentials"}:
        required = next(iter(FOREIGN[entry.kind]))
        if f"{required}_id" not in entry.values and required not in entry.references:
            yield Fault((*entry.place, required), "required field missing")


def _referenced_key(written: Any) -> str | None:
    if isinstance(written, dict):
        written = next((written[key] for key in ("id", "name", "username") if key in written), None)
    return written if isinstance(written, str) else None


def _duplicates(entries: Iterable[Entry]) -> Iterator[Fault]:
    seen: set[tuple[object, ...]] = set()
    for entry in entries:
        for description, key in _unique_keys(entry):
            if (entry.kind, description, key) in seen:
                yield Fault(
                    entry.place, f"uniqueness violation: '{entry.kind}' entity with {description} already declared"
                )
            seen.add((entry.kind, description, key))


def _unique_keys(entry: Entry) -> Iterator[tuple[str, object]]:
    values = entry.values
    if entry.has_own_id:
        yield f"primary key set to '{values['id']}'", None
    for name in (NAMES.get(entry.kind), *_ALSO_UNIQUE.get(entry.kind, ())):
        if name is not None and values.get(name) is not None:
            shown = MASK if (entry.kind, name) == _SECRET else values[name]
            yield f"{name} set to '{shown}'", str(values[name])
    if entry.kind == "plugins":
        scope = (*(values.get(f"{name}_id") for name in ("route", "service", "consumer")), values.get("consumer_group"))
        yield f"name set to '{values.get('name')}' for the same route, service and consumer", scope
    if entry.kind == "targets" and isinstance(values.get("target"), str):
        yield f"target set to '{values['target']}'", (values.get("upstream_id"), split_target(values["target"]))


_Entity = TypeVar("_Entity", Service, Route, Consumer, Upstream, PluginConfig, Vault)

# Differs between two loads of a configuration in this process.
_sequences = itertools.count(1)


def build(file: Path, entries: Iterable[Entry], lines: Callable[[Place], int | None]) -> Config:
    """Build the configuration from resolved entries without faults.

    :param lines: returns the line of a place in the file.
    """
    by_kind: dict[str, list[dict[str, Any]]] = {}
    now = int(time.time())
    sequence = next(_sequences)
    for entry in entries:
        values = {"created_at": now, "updated_at": now, **entry.values}
        if entry.kind in {"plugins", "vaults"}:
            values |= {"config": entry.config, "sequence": sequence, "line": lines(entry.place)}
        by_kind.setdefault(entry.kind, []).append(values)
    services = _by_id(Service, by_kind.get("services", ()))
    routes = [{**values, "order": order} for order, values in enumerate(by_kind.get("routes", ()))]
    upstreams = _upstreams(by_kind.get("upstreams", ()), by_kind.get("targets", ()))
    consumers = _by_id(Consumer, by_kind.get("consumers", ()))
    credentials = {values["id"]: _credential(values) for values in by_kind.get("keyauth_credentials", ())}
    return Config(
        services=services,
        routes=_by_id(Route, routes),
        upstreams=upstreams,
        consumers=consumers,
        credentials=credentials,
        plugins=tuple(_entity(PluginConfig, values) for values in by_kind.get("plugins", ())),
        upstreams_by_name={upstream.name: upstream for upstream in upstreams.values()},
        consumers_by_username={each.username: each for each in consumers.values() if each.username},
        credentials_by_key={each.key: each for each in credentials.values() if each.key},
        vaults=tuple(_entity(Vault, values) for values in by_kind.get("vaults", ())),
        file=file,
    )


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict):
        return {key: _frozen(each) for key, each in value.items()}
    return value


def _entity(kind: type[_Entity], values: dict[str, Any]) -> _Entity:
    """An entity from values by field name; values without a field are ignored."""
    known = {field.name for field in fields(kind)}
    arguments = {name: value if name == "config" else _frozen(value) for name, value in values.items() if name in known}
    for name in ("name", "service_id"):
        if name in known and kind is not PluginConfig:
            arguments.setdefault(name, None)
    return kind(**arguments)


def _by_id(kind: type[_Entity], all_values: Iterable[dict[str, Any]]) -> dict[str, _Entity]:
    return {values["id"]: _entity(kind, values) for values in all_values}


def _upstreams(upstreams: Iterable[dict[str, Any]], targets: Iterable[dict[str, Any]]) -> dict[str, Upstream]:
    by_upstream: dict[str, list[Target]] = {}
    for values in targets:
        address = split_target(values["target"])
        assert address is not None
        target = Target(values["id"], *address, values["weight"], _frozen(values.get("tags")))
        by_upstream.setdefault(values["upstream_id"], []).append(target)
    return {
        values["id"]: _entity(Upstream, {**values, "targets": by_upstream.get(values["id"], [])})
        for values in upstreams
    }


def _credential(values: dict[str, Any]) -> Credential:
    extra = {name: values[name] for name in ("key", "ttl", "tags", "created_at") if values.get(name) is not None}
    extra.setdefault("key", secrets.token_urlsafe(24))
    return Credential(values["id"], values.get("consumer_id"), extra)
