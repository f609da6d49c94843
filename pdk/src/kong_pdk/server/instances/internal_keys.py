"""Separates the keys that Kong adds to a configuration from the user's keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kong_pdk.plugin import Plugin
from kong_pdk.schema import Field

REFS = "$refs"
"""The key under which Kong lists the fields that held a reference, ``{vault://...}``; each record has its own."""

_BARE = ("route_id", "service_id", "consumer_id", "plugin_instance_name")
_REFERENCE = "{vault://"
_Split = tuple[Any, dict[str, Any]]


def split(plugin: Plugin, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Separate the user's keys from Kong's internal ones.

    :return: the user's configuration, and Kong's keys. The references of nested records are in ``$refs`` of Kong's
        keys, below the record's name: ``{"auth": {"password": "{vault://..."}}``.
    """
    declared = {name for entry in plugin.schema for name in entry}
    kong_keys = {key for key in config if key not in declared and (key.startswith("__") or key in _BARE)}
    internal = {key: config[key] for key in kong_keys}
    user_config = {key: value for key, value in config.items() if key not in kong_keys}
    if not plugin.schema and REFS in user_config:  # without a Schema the user has no field of that name
        internal[REFS] = user_config.pop(REFS)
    user_config, refs = _split_record(
        user_config, {"type": "record", "fields": plugin.schema} if plugin.schema else None
    )
    if refs:
        internal[REFS] = {**internal.get(REFS, {}), **refs}
    return user_config, internal


def _split_value(value: Any, field: Field | None) -> _Split:
    """Separate a value from the references in it.

    :param field: the definition of the field; where there is none, references are recognised by their form.
    """
    kind = field.get("type") if field else None
    if isinstance(value, dict):
        if kind in ("record", None):
            return _split_record(value, field)
        if field and kind == "map":
            values = field.get("values")
            return _split_entries(value.items(), lambda key: values)
    elif isinstance(value, list) and kind in ("array", "set", None):
        elements = field.get("elements") if field else None
        clean, refs = _split_entries(enumerate(value), lambda at: elements)
        return list(clean.values()), refs
    return value, {}


def _split_record(value: dict[str, Any], field: Field | None) -> _Split:
    fields = {name: each for entry in (field or {}).get("fields", ()) for name, each in entry.items()}
    refs: dict[str, Any] = {}
    if REFS in value and (REFS not in fields if fields else _are_references(value[REFS])):
        refs = value[REFS] if isinstance(value[REFS], dict) else {}
        value = {key: each for key, each in value.items() if key != REFS}
    clean, inner = _split_entries(value.items(), fields.get)
    return clean, {**refs, **inner}


def _split_entries(entries: Iterable[tuple[Any, Any]], field_of: Callable[[Any], Field | None]) -> _Split:
    clean, refs = {}, {}
    for key, value in entries:
        clean[key], inner = _split_value(value, field_of(key))
        if inner:
            refs[str(key)] = inner
    return clean, refs


def _are_references(value: object) -> bool:
    """Whether a value has the form of Kong's ``$refs``: references by field, and by position in a list."""
    if isinstance(value, dict | list):
        return bool(value) and all(map(_are_references, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and value.startswith(_REFERENCE)
