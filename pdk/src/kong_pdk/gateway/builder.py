"""Makes the gateway's entities from the checked entries of a declarative configuration."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from kong_pdk.gateway.document import Place
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
from kong_pdk.gateway.entries import Entry, split_target

_Entity = TypeVar("_Entity", Service, Route, Consumer, Upstream, PluginConfig, Vault)

# Differs between two loads of a configuration, in this process.
_sequences = itertools.count(1)


def build(file: Path, entries: Iterable[Entry], lines: Callable[[Place], int | None]) -> Config:
    """The configuration that resolved entries without faults mean. ``lines`` gives the line of a place of the file."""
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
    """An entity from the values that it has fields for."""
    known = {field.name for field in fields(kind)}
    given = {name: value if name == "config" else _frozen(value) for name, value in values.items() if name in known}
    for name in ("name", "service_id"):
        if name in known and kind is not PluginConfig:
            given.setdefault(name, None)
    return kind(**given)


def _by_id(kind: type[_Entity], all_values: Iterable[dict[str, Any]]) -> dict[str, _Entity]:
    return {values["id"]: _entity(kind, values) for values in all_values}


def _upstreams(upstreams: Iterable[dict[str, Any]], targets: Iterable[dict[str, Any]]) -> dict[str, Upstream]:
    of_upstream: dict[str, list[Target]] = {}
    for values in targets:
        address = split_target(values["target"])
        assert address is not None
        target = Target(values["id"], *address, values["weight"], _frozen(values.get("tags")))
        of_upstream.setdefault(values["upstream_id"], []).append(target)
    return {
        values["id"]: _entity(Upstream, {**values, "targets": of_upstream.get(values["id"], [])})
        for values in upstreams
    }


def _credential(values: dict[str, Any]) -> Credential:
    extra = {name: values[name] for name in ("key", "ttl", "tags", "created_at") if values.get(name) is not None}
    extra.setdefault("key", secrets.token_urlsafe(24))
    return Credential(values["id"], values.get("consumer_id"), extra)
