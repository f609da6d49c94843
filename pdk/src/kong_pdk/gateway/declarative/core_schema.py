"""The schemas of Kong's core entities, in the same schema language as plugins' schemas.

The fields that a service or a route may have depend on its protocols, and are checked by functions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

Field = dict[str, Any]
Fields = tuple[Field, ...]

FORMATS = ("1.1", "2.1", "3.0")
META = ("_format_version", "_transform", "_comment", "_ignore", "_info", "_workspace")
# Fields of decK and Kong Enterprise, which the open-source Kong refuses.
NOT_OPEN_SOURCE: dict[str, frozenset[str]] = {
    "": frozenset({"_info", "_workspace", "consumer_groups", "consumer_group_consumers", "plugin_configs"}),
    "consumers": frozenset({"consumer_groups", "groups"}),
    "plugins": frozenset({"consumer_group", "ordering"}),
}
# Fields of an entity for people and tools.
ANNOTATIONS = ("_comment", "_ignore")

_PROTOCOLS = ["grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp"]
_STRING: Field = {"type": "string"}
_TEXT_LIST: Field = {"type": "array", "elements": _STRING}
_TAGS: Field = {"type": "set", "elements": {"type": "string", "len_min": 1}}
_FLAG_OFF: Field = {"type": "boolean", "default": False}
_FLAG_ON: Field = {"type": "boolean", "default": True}
_TIMEOUT: Field = {"type": "integer", "default": 60000, "between": [1, 2147483646]}
_PORT: Field = {"type": "integer", "between": [0, 65535]}

_NAME: Field = {
    "type": "string",
    "match_none": [{"pattern": "[^%w%.%-%_~\x80-\xff]", "err": "invalid value: the only accepted ascii "
                    "characters are alphanumerics or ., -, _, and ~"}],
}  # fmt: skip
_HOST: Field = {"type": "string", "required": True, "len_min": 1}
_PATH: Field = {
    "type": "string",
    "starts_with": "/",
    "match_none": [{"pattern": "//", "err": "must not have empty segments"}],
}
_ROUTER_PATH: Field = {
    "type": "string",
    "match_any": {
        "patterns": ["^/", "^~/"],
        "err": "should start with: / (fixed path) or ~/ (regex path)",
    },
    "match_none": [{"pattern": "^/.*//", "err": "must not have empty segments"}],
}
_IDENTITY: Fields = (
    {"id": {"type": "string", "uuid": True}},
    {"created_at": {"type": "integer"}},
    {"updated_at": {"type": "integer"}},
    {"tags": _TAGS},
)


def _protocols(default: list[str]) -> Field:
    return {
        "type": "set",
        "required": True,
        "len_min": 1,
        "default": default,
        "elements": {"type": "string", "one_of": _PROTOCOLS},
        "mutually_exclusive_subsets": [
            ["http", "https"],
            ["tcp", "tls", "udp"],
            ["tls_passthrough"],
            ["grpc", "grpcs"],
        ],
    }


SERVICES: Fields = (
    *_IDENTITY,
    {"name": _NAME},
    {"url": _STRING},
    {"retries": {"type": "integer", "default": 5, "between": [0, 32767]}},
    {"protocol": {"type": "string", "required": True, "default": "http", "one_of": _PROTOCOLS}},
    {"host": _HOST},
    {"port": {**_PORT, "required": True, "default": 80}},
    {"path": _PATH},
    {"connect_timeout": _TIMEOUT},
    {"write_timeout": _TIMEOUT},
    {"read_timeout": _TIMEOUT},
    {"tls_verify": {"type": "boolean"}},
    {"tls_verify_depth": {"type": "integer", "between": [0, 64]}},
    {"ca_certificates": {"type": "array", "elements": {"type": "string", "uuid": True}}},
    {"enabled": {**_FLAG_ON, "required": True}},
)

ROUTES: Fields = (
    *_IDENTITY,
    {"name": _NAME},
    {"protocols": _protocols(["http", "https"])},
    {"methods": {"type": "set", "elements": {"type": "string", "match": "^%u+$"}}},
    {"hosts": {"type": "array", "elements": {"type": "string", "len_min": 1}}},
    {"paths": {"type": "array", "elements": _ROUTER_PATH}},
    {
        "headers": {
            "type": "map",
            "keys": {
                "type": "string",
                "match_none": [
                    {
                        "pattern": "^[Hh][Oo][Ss][Tt]$",
                        "err": "cannot contain 'host' header, which must be specified in the 'hosts' attribute",
                    }
                ],
            },
            "values": _TEXT_LIST,
        }
    },
    {"snis": {"type": "set", "elements": _STRING}},
    {"sources": {"type": "set", "elements": {"type": "record", "fields": [{"ip": _STRING}, {"port": _PORT}]}}},
    {
        "destinations": {
            "type": "set",
            "elements": {"type": "record", "fields": [{"ip": _STRING}, {"port": _PORT}]},
        }
    },
    {
        "https_redirect_status_code": {
            "type": "integer",
            "required": True,
            "default": 426,
            "one_of": [426, 301, 302, 307, 308],
        }
    },
    {"regex_priority": {"type": "integer", "default": 0}},
    {"strip_path": {**_FLAG_ON, "required": True}},
    {"path_handling": {"type": "string", "default": "v0", "one_of": ["v0", "v1"]}},
    {"preserve_host": {**_FLAG_OFF, "required": True}},
    {"request_buffering": {**_FLAG_ON, "required": True}},
    {"response_buffering": {**_FLAG_ON, "required": True}},
)

UPSTREAMS: Fields = (
    *_IDENTITY,
    {"name": {"type": "string", "required": True, "len_min": 1}},
    {
        "algorithm": {
            "type": "string",
            "default": "round-robin",
            "one_of": ["consistent-hashing", "least-connections", "round-robin", "latency"],
        }
    },
    {"slots": {"type": "integer", "default": 10000, "between": [10, 65536]}},
    {"host_header": _STRING},
    {"use_srv_name": _FLAG_OFF},
)

TARGETS: Fields = (
    *_IDENTITY,
    {"target": {"type": "string", "required": True, "len_min": 1}},
    {"weight": {"type": "integer", "default": 100, "between": [0, 65535]}},
)

CONSUMERS: Fields = (*_IDENTITY, {"username": _STRING}, {"custom_id": _STRING})

KEYAUTH_CREDENTIALS: Fields = (*_IDENTITY, {"key": {"type": "string", "len_min": 1}}, {"ttl": {"type": "integer"}})

PLUGINS: Fields = (
    *_IDENTITY,
    {"name": {"type": "string", "required": True, "len_min": 1}},
    {"instance_name": _NAME},
    {"protocols": {**_protocols(["grpc", "grpcs", "http", "https"]), "mutually_exclusive_subsets": []}},
    {"enabled": {**_FLAG_ON, "required": True}},
)

VAULTS: Fields = (
    *_IDENTITY,
    {
        "prefix": {
            "type": "string",
            "required": True,
            "match": "^[a-z][a-z%d-]*[a-z%d]$",
            "not_one_of": ["env", "aws", "azure", "conjur", "gcp", "hcv"],
        }
    },
    {"name": {"type": "string", "required": True, "len_min": 1}},
    {"description": _STRING},
)

FIELDS: dict[str, Fields] = {
    "services": SERVICES,
    "routes": ROUTES,
    "upstreams": UPSTREAMS,
    "targets": TARGETS,
    "consumers": CONSUMERS,
    "keyauth_credentials": KEYAUTH_CREDENTIALS,
    "plugins": PLUGINS,
    "vaults": VAULTS,
}

# The entities that may be nested in an entity, and the field in which they refer to the outer one.
NESTED: dict[str, dict[str, str]] = {
    "services": {"routes": "service", "plugins": "service"},
    "routes": {"plugins": "route"},
    "upstreams": {"targets": "upstream"},
    "consumers": {"keyauth_credentials": "consumer", "plugins": "consumer"},
}

# Fields that refer to another entity, and the kind of this entity.
FOREIGN: dict[str, dict[str, str]] = {
    "routes": {"service": "services"},
    "targets": {"upstream": "upstreams"},
    "keyauth_credentials": {"consumer": "consumers"},
    "plugins": {"service": "services", "route": "routes", "consumer": "consumers"},
}

# Fields and nested entities of Kong that this schema does not check.
IGNORED: dict[str, frozenset[str]] = {
    "services": frozenset({"client_certificate", "filter_chains"}),
    "routes": frozenset({"filter_chains"}),
    "vaults": frozenset({"config"}),
    "upstreams": frozenset(
        {
            "client_certificate",
            "healthchecks",
            "hash_on",
            "hash_fallback",
            "hash_on_header",
            "hash_fallback_header",
            "hash_on_cookie",
            "hash_on_cookie_path",
            "hash_on_query_arg",
            "hash_fallback_query_arg",
            "hash_on_uri_capture",
            "hash_fallback_uri_capture",
        }
    ),
    "plugins": frozenset({"config", "ordering", "consumer_group"}),
    "consumers": frozenset(
        {
            "acls",
            "basicauth_credentials",
            "consumer_groups",
            "groups",
            "hmacauth_credentials",
            "jwt_secrets",
            "oauth2_credentials",
        }
    ),
}
# Those of the unchecked fields that would affect requests, and have no effect in this gateway.
SKIPPED: dict[str, frozenset[str]] = {
    "services": IGNORED["services"],
    "routes": IGNORED["routes"],
    "upstreams": frozenset({"client_certificate"}),
    "consumers": IGNORED["consumers"],
}
OTHER_ENTITIES = frozenset(
    {
        "acls",
        "acme_storage",
        "basicauth_credentials",
        "ca_certificates",
        "certificates",
        "clustering_data_planes",
        "consumer_group_consumers",
        "consumer_groups",
        "filter_chains",
        "hmacauth_credentials",
        "jwt_secrets",
        "key_sets",
        "keys",
        "oauth2_credentials",
        "oauth2_tokens",
        "parameters",
        "plugin_configs",
        "ratelimiting_metrics",
        "sessions",
        "snis",
        "workspaces",
    }
)


# The path of a field in its entity, Kong's message, and a hint.
FieldFault = tuple[tuple[str, ...], str, str | None]

_TLS_FIELDS = ("client_certificate", "tls_verify", "tls_verify_depth", "ca_certificates")
_TLS_SERVICES = ("https", "tls")
_WITHOUT_PATH = ("tcp", "tls", "udp", "grpc", "grpcs")
_MUST_BE_NULL = "value must be null (failed conditional validation given value of field 'protocol')"

_WITH_SNIS = ("grpcs", "https", "tls", "tls_passthrough")
# Groups of protocols, and the fields that a route for one of them cannot have; an empty list counts as set.
_NOT_FOR = (
    (("http", "https"), ("sources", "destinations")),
    (("grpc", "grpcs"), ("methods", "sources", "destinations")),
    (("tcp", "tls", "tls_passthrough", "udp"), ("methods", "hosts", "headers", "paths")),
)


def service_faults(values: Mapping[str, Any], written: Mapping[str, Any]) -> Iterator[FieldFault]:
    """Faults of fields that a service with its protocol cannot have.

    :param values: the checked fields with their defaults, and with ``url`` expanded.
    :param written: the fields as written in the file, including unchecked ones.
    """
    protocol = values.get("protocol")
    if not isinstance(protocol, str):
        return
    if protocol not in _TLS_SERVICES:
        for name in _TLS_FIELDS:
            if written.get(name) is not None:
                yield (name,), _MUST_BE_NULL, f"remove it: it is for protocol https and tls, and this is {protocol}"
    if protocol in _WITHOUT_PATH and values.get("path") is not None:
        yield ("path",), _MUST_BE_NULL, f"remove it: a service for {protocol} has no path"


def route_faults(written: Mapping[str, Any], protocols: Collection[str]) -> Iterator[FieldFault]:
    """Faults of fields that a route with its protocols cannot have, or must have."""
    if written.get("snis") and not set(_WITH_SNIS).intersection(protocols):
        yield ("snis",), f"'snis' can only be set when 'protocols' is {_quoted_or(_WITH_SNIS)}", None
    yield from _missing_match_fields(written, protocols)
    for group, names in _NOT_FOR:
        if set(group).intersection(protocols):
            for name in names:
                if written.get(name) is not None:
                    yield (name,), f"cannot set '{name}' when 'protocols' is {_quoted_or(group)}", None
    if written.get("strip_path") is True and {"grpc", "grpcs"}.intersection(protocols):
        yield ("strip_path",), "cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'", None


def _missing_match_fields(written: Mapping[str, Any], protocols: Collection[str]) -> Iterator[FieldFault]:
    common = ["hosts", "headers", "paths"]
    for plain, secure, names in (("http", "https", ["methods", *common]), ("grpc", "grpcs", common)):
        protocol = secure if secure in protocols else plain
        fields = [*names, "snis"] if secure in protocols else names
        if protocol in protocols and not _has_any(written, fields):
            yield (), f"must set one of {_quoted(fields)} when 'protocols' is '{protocol}'", None
    fields = ["sources", "destinations", "snis"]
    if {"tcp", "tls", "udp"}.intersection(protocols) and not _has_any(written, fields):
        yield (), f"must set one of {_quoted(fields)} when 'protocols' is 'tcp', 'tls' or 'udp'", None
    if "tls_passthrough" in protocols and not written.get("snis"):
        yield (), "must set snis when 'protocols' is 'tls_passthrough'", None


def _has_any(written: Mapping[str, Any], names: Collection[str]) -> bool:
    return any(written.get(name) for name in names)


def _quoted(names: Collection[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _quoted_or(names: Collection[str]) -> str:
    *others, last = names
    return f"{_quoted(others)} or '{last}'"
