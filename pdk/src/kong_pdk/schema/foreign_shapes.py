"""Recognises schemas in a foreign shape: of a schema.lua, of JSON Schema, or a dict of fields."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from kong_pdk.schema.foreign_attributes import python_text, record_fields, translate

_MAX_TEXT = 160


def fields_from_schema(schema: object) -> list[Any] | None:
    """The fields of a schema.lua, a JSON Schema (also as text), or a dict of fields; None for anything else."""
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError:
            return None
        return schema if isinstance(schema, list) else fields_from_schema(schema) if isinstance(schema, dict) else None
    if not isinstance(schema, dict):
        return None
    if isinstance(schema.get("fields"), list | tuple):
        return _config_fields(list(schema["fields"]))
    definitions = schema["properties"] if isinstance(schema.get("properties"), dict) else schema
    if definitions and all(isinstance(definition, dict) for definition in definitions.values()):
        return list(record_fields(definitions, schema)["fields"])
    return None


def _config_fields(fields: list[Any]) -> list[Any]:
    """The fields inside the record ``config``, if there is one as in a schema.lua; else ``fields``."""
    for item in fields:
        config = item.get("config") if isinstance(item, dict) else None
        if isinstance(config, dict) and isinstance(config.get("fields"), list | tuple):
            fields = list(config["fields"])
    return [
        {name: translate(field) if isinstance(field, dict) else field for name, field in item.items()}
        if isinstance(item, dict)
        else item
        for item in fields
    ]


_ENTRY_FIELD_HINTS = {
    "protocols": 'set "protocols" in the plugin\'s entry, in kong.yml or by the Admin API',
    "consumer": "a handler gets the consumer by kong.client.get_consumer()",
    "consumer_group": "a handler gets the consumer by kong.client.get_consumer()",
    "route": "a handler gets the route by kong.router.get_route()",
    "service": "a handler gets the service by kong.router.get_service()",
}
_ENTRY_FIELDS = {
    *_ENTRY_FIELD_HINTS,
    "id",
    "name",
    "instance_name",
    "enabled",
    "tags",
    "created_at",
    "updated_at",
    "ordering",
    "entity_checks",
    "run_on",
    "no_consumer",
}
_PROTOCOLS = {"http", "https", "grpc", "grpcs", "tcp", "tls", "tls_passthrough", "udp", "ws", "wss"}

OVERWRITTEN = {
    "route_id": "kong.router.get_route() has the id of the route",
    "service_id": "kong.router.get_service() has the id of the service",
    "consumer_id": "kong.client.get_consumer() has the id of the consumer",
    "plugin_instance_name": "kong.plugin.get_id() has the id of the plugin's entry",
}
"""Fields whose value Kong overwrites or removes, and the PDK function that gives Kong's value."""


def lua_schema_fields(fields: Sequence[Any]) -> Iterator[tuple[int, str, str, str]]:
    """Find fields of a schema.lua that do not belong to the configuration.

    :return: the index, name, message and hint of each.
    """
    named = [
        (at, *next(iter(item.items()))) for at, item in enumerate(fields) if isinstance(item, dict) and len(item) == 1
    ]
    other_names = {name for _, name, _ in named if name != "config"}
    is_lua_schema = any(name in _ENTRY_FIELD_HINTS and _is_lua_schema_field(name, field) for _, name, field in named)
    is_lua_schema = is_lua_schema or any(
        name == "config" and _is_record(field) and other_names <= _ENTRY_FIELDS for _, name, field in named
    )
    for at, name, field in named:
        if name == "config" and _is_record(field) and is_lua_schema:
            message = 'Schema has the record "config" of a schema.lua, which Kong adds by itself'
            yield at, name, message, f"write only its fields: {schema_text(_config_fields([{name: field}]))}"
        elif name in _ENTRY_FIELD_HINTS and (
            _is_lua_schema_field(name, field) or (is_lua_schema and name == "protocols" and _is_set(field))
        ):
            message = f'Schema has the field "{name}" of a schema.lua, which does not belong to the configuration'
            yield at, name, message, f"remove it; {_ENTRY_FIELD_HINTS[name]}"


def ambiguous_fields(fields: Sequence[Any]) -> Iterator[tuple[int, str, str, str]]:
    """Find fields that Kong accepts, but that authors usually mean for the entry around the configuration.

    :return: the index, name, message and hint of each.
    """
    for at, item in enumerate(fields):
        [(name, field)] = item.items()
        if name == "config" and _is_record(field):
            names = [inner for definition in field.get("fields", ()) for inner in definition]
            written_by_users = f"config.config.{names[0] if names else '...'}"
            message = f'Schema has a record "config" inside the configuration, so that users write {written_by_users}'
            yield at, name, message, "write its fields beside the others, unless this is meant"
        elif name == "protocols" and _is_set(field) and "one_of" not in field["elements"] and not field.get("default"):
            message = 'Schema field "protocols" is part of the configuration: Kong ignores it'
            yield at, name, message, f"{_ENTRY_FIELD_HINTS[name]}, or choose another name"


def _is_record(field: Any) -> bool:
    return isinstance(field, dict) and field.get("type") in ("record", "object")


def _is_set(field: Any) -> bool:
    return isinstance(field, dict) and field.get("type") == "set"


def _is_lua_schema_field(name: str, field: Any) -> bool:
    if isinstance(field, str):
        return field.startswith("typedefs.")
    if not isinstance(field, dict):
        return False
    if name != "protocols":
        return field.get("type") == "foreign"
    elements = field.get("elements")
    protocols = field.get("default") or (elements.get("one_of") if isinstance(elements, dict) else None)
    return (
        _is_set(field)
        and isinstance(protocols, list)
        and bool(protocols)
        and all(protocol in _PROTOCOLS for protocol in protocols)
    )


def entity_checks_hint(title: str) -> str:
    """A hint where to write ``entity_checks`` that are among the fields by mistake."""
    if "." in title:
        return f'write it beside "fields", in the definition of "{title.rpartition(".")[0]}"'
    return (
        "check the values in Plugin.__init__, or write the fields into a record, whose definition can have "
        '"entity_checks" beside "fields"'
    )


def fields_text(value: object) -> str:
    """The attribute ``fields`` as Python source, for a record whose fields are not a list."""
    fields = fields_from_schema(value) or [{"name": {"type": "string"}}]
    text = f'"fields": {python_text(fields)}'
    return text if len(text) <= _MAX_TEXT else f'"fields": [{python_text(fields[0])}, ...]'


def schema_text(fields: Sequence[Any]) -> str:
    """A schema as Python source; of a long one, only the first field."""
    text = f"Schema = {python_text(list(fields))}"
    if len(text) <= _MAX_TEXT or not fields:
        return text
    first = python_text(fields[0])
    return f"Schema = [{first if len(first) <= _MAX_TEXT else '{...}'}, ...]"
