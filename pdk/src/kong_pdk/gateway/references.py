"""Connects the entries of a declarative configuration: identities, references, and what may be there only once."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from kong_pdk.gateway.core_schema import FOREIGN
from kong_pdk.gateway.entries import Entry, Fault, split_target

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


def resolve(entries: list[Entry]) -> Iterator[Fault]:
    """Give every entry its ``id``, and for each reference ``<field>_id``; yield what does not fit together."""
    _identify(entries)
    index = _index(entries)
    for entry in entries:
        yield from _references(entry, index)
    yield from _duplicates(entries)


def _identify(entries: Iterable[Entry]) -> None:
    """The same file gives the same ids, as in DB-less Kong."""
    for entry in entries:
        if entry.has_own_id:
            continue
        parents = [f"{name}={parent.values['id']}" for name, parent in sorted(entry.parents.items())]
        own = entry.values.get(NAMES.get(entry.kind, "target"))
        if entry.kind == "plugins":
            own = f"{entry.values.get('name')} {own} {entry.references}"
            if group := entry.values.get("consumer_group"):
                own += f" {group}"
        elif own is None:
            own = entry.place
        entry.values["id"] = str(uuid.uuid5(_NAMESPACE, f"{entry.kind}:{':'.join(parents)}:{own}"))


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
        wanted = _wanted(written)
        if wanted is None:
            yield Fault((*entry.place, name), "expected a string or a record with an id")
            continue
        found = index.get((kind, wanted))
        if found is None:
            yield Fault(
                (*entry.place, name),
                f"invalid reference '{name}: {wanted}' (no such entry in '{kind}')",
            )
        else:
            entry.values[f"{name}_id"] = found
    if entry.kind in {"targets", "keyauth_credentials"}:
        needed = next(iter(FOREIGN[entry.kind]))
        if f"{needed}_id" not in entry.values and needed not in entry.references:
            yield Fault((*entry.place, needed), "required field missing")


def _wanted(written: Any) -> str | None:
    if isinstance(written, dict):
        written = next((written[key] for key in ("id", "name", "username") if key in written), None)
    return written if isinstance(written, str) else None


def _duplicates(entries: Iterable[Entry]) -> Iterator[Fault]:
    seen: set[tuple[object, ...]] = set()
    for entry in entries:
        for what, key in _keys(entry):
            if (entry.kind, what, key) in seen:
                yield Fault(entry.place, f"uniqueness violation: '{entry.kind}' entity with {what} already declared")
            seen.add((entry.kind, what, key))


def _keys(entry: Entry) -> Iterator[tuple[str, object]]:
    values = entry.values
    if entry.has_own_id:
        yield f"primary key set to '{values['id']}'", None
    for name in (NAMES.get(entry.kind), *_ALSO_UNIQUE.get(entry.kind, ())):
        if name is not None and values.get(name) is not None:
            yield f"{name} set to '{values[name]}'", None
    if entry.kind == "plugins":
        scope = (*(values.get(f"{name}_id") for name in ("route", "service", "consumer")), values.get("consumer_group"))
        yield f"name set to '{values.get('name')}' for the same route, service and consumer", scope
    if entry.kind == "targets" and isinstance(values.get("target"), str):
        yield f"target set to '{values['target']}'", (values.get("upstream_id"), split_target(values["target"]))
