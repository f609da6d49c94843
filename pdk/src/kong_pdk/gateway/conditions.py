"""Which fields a service and a route may have for their protocols, and which they need."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

# The way to the field from its entity, what is wrong with it in Kong's words, and what to do.
Wrong = tuple[tuple[str, ...], str, str | None]

_TLS_FIELDS = ("client_certificate", "tls_verify", "tls_verify_depth", "ca_certificates")
_TLS_SERVICES = ("https", "tls")
_WITHOUT_PATH = ("tcp", "tls", "udp", "grpc", "grpcs")
_MUST_BE_NULL = "value must be null (failed conditional validation given value of field 'protocol')"

_WITH_SNIS = ("grpcs", "https", "tls", "tls_passthrough")
# Protocols, and the fields that a route for one of them cannot have; an empty list counts as set.
_NOT_FOR = (
    (("http", "https"), ("sources", "destinations")),
    (("grpc", "grpcs"), ("methods", "sources", "destinations")),
    (("tcp", "tls", "tls_passthrough", "udp"), ("methods", "hosts", "headers", "paths")),
)


def service_faults(values: Mapping[str, Any], written: Mapping[str, Any]) -> Iterator[Wrong]:
    """What a service cannot have for its protocol.

    ``values`` have their defaults, and what ``url`` stands for; ``written`` has the fields that are not checked alone.
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


def route_faults(written: Mapping[str, Any], protocols: Collection[str]) -> Iterator[Wrong]:
    """What a route cannot have for its protocols, and what it needs."""
    if written.get("snis") and not set(_WITH_SNIS).intersection(protocols):
        yield ("snis",), f"'snis' can only be set when 'protocols' is {_either(_WITH_SNIS)}", None
    yield from _needed(written, protocols)
    for of, names in _NOT_FOR:
        if set(of).intersection(protocols):
            for name in names:
                if written.get(name) is not None:
                    yield (name,), f"cannot set '{name}' when 'protocols' is {_either(of)}", None
    if written.get("strip_path") is True and {"grpc", "grpcs"}.intersection(protocols):
        yield ("strip_path",), "cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'", None


def _needed(written: Mapping[str, Any], protocols: Collection[str]) -> Iterator[Wrong]:
    wanted = ["hosts", "headers", "paths"]
    for plain, secure, names in (("http", "https", ["methods", *wanted]), ("grpc", "grpcs", wanted)):
        protocol = secure if secure in protocols else plain
        fields = [*names, "snis"] if secure in protocols else names
        if protocol in protocols and not _any(written, fields):
            yield (), f"must set one of {_listed(fields)} when 'protocols' is '{protocol}'", None
    fields = ["sources", "destinations", "snis"]
    if {"tcp", "tls", "udp"}.intersection(protocols) and not _any(written, fields):
        yield (), f"must set one of {_listed(fields)} when 'protocols' is 'tcp', 'tls' or 'udp'", None
    if "tls_passthrough" in protocols and not written.get("snis"):
        yield (), "must set snis when 'protocols' is 'tls_passthrough'", None


def _any(written: Mapping[str, Any], names: Collection[str]) -> bool:
    return any(written.get(name) for name in names)


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _either(names: Collection[str]) -> str:
    *others, last = names
    return f"{_listed(others)} or '{last}'"
