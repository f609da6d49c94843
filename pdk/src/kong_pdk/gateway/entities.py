"""Kong's entities from a declarative configuration, with all defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from kong_pdk.plugin import Problem

# The workspace of every entity in a DB-less Kong.
WORKSPACE_ID = "0dc6f45b-8f8d-40d2-a504-473544ee190b"

_Element = TypeVar("_Element")


def _without_none(values: dict[str, object]) -> dict[str, object]:
    """Remove None, since Lua tables have no nil values."""
    return {name: value for name, value in values.items() if value is not None}


def _array(values: tuple[_Element, ...] | None) -> list[_Element] | None:
    return None if values is None else list(values)


@dataclass(frozen=True)
class Service:
    """An upstream application. Timeouts are in milliseconds, as in Kong."""

    id: str
    name: str | None
    host: str
    port: int = 80
    protocol: str = "http"
    path: str | None = None
    retries: int = 5
    connect_timeout: int = 60000
    write_timeout: int = 60000
    read_timeout: int = 60000
    tls_verify: bool | None = None
    tls_verify_depth: int | None = None
    enabled: bool = True
    tags: tuple[str, ...] | None = None
    created_at: int = 0
    updated_at: int = 0

    def to_dict(self) -> dict[str, object]:
        """The table that ``kong.router.get_service`` returns."""
        return _without_none(
            {
                "id": self.id,
                "name": self.name,
                "host": self.host,
                "port": self.port,
                "protocol": self.protocol,
                "path": self.path,
                "retries": self.retries,
                "connect_timeout": self.connect_timeout,
                "write_timeout": self.write_timeout,
                "read_timeout": self.read_timeout,
                "tls_verify": self.tls_verify,
                "tls_verify_depth": self.tls_verify_depth,
                "enabled": self.enabled,
                "tags": _array(self.tags),
                "ws_id": WORKSPACE_ID,
                "created_at": self.created_at,
                "updated_at": self.updated_at,
            }
        )


@dataclass(frozen=True)
class Route:
    """A rule that sends requests to a service. ``order`` is its index in the configuration."""

    id: str
    name: str | None
    service_id: str | None
    protocols: tuple[str, ...] = ("http", "https")
    hosts: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    paths: tuple[str, ...] | None = None
    headers: Mapping[str, tuple[str, ...]] | None = None
    snis: tuple[str, ...] | None = None
    sources: tuple[Mapping[str, str | int], ...] | None = None
    destinations: tuple[Mapping[str, str | int], ...] | None = None
    regex_priority: int = 0
    strip_path: bool = True
    preserve_host: bool = False
    path_handling: str = "v0"
    https_redirect_status_code: int = 426
    request_buffering: bool = True
    response_buffering: bool = True
    tags: tuple[str, ...] | None = None
    created_at: int = 0
    updated_at: int = 0
    order: int = 0

    def to_dict(self) -> dict[str, object]:
        """The table that ``kong.router.get_route`` returns."""
        headers = None
        if self.headers is not None:
            headers = {name: list(values) for name, values in self.headers.items()}
        return _without_none(
            {
                "id": self.id,
                "name": self.name,
                "service": None if self.service_id is None else {"id": self.service_id},
                "protocols": list(self.protocols),
                "hosts": _array(self.hosts),
                "methods": _array(self.methods),
                "paths": _array(self.paths),
                "headers": headers,
                "snis": _array(self.snis),
                "sources": _array(self.sources),
                "destinations": _array(self.destinations),
                "regex_priority": self.regex_priority,
                "strip_path": self.strip_path,
                "preserve_host": self.preserve_host,
                "path_handling": self.path_handling,
                "https_redirect_status_code": self.https_redirect_status_code,
                "request_buffering": self.request_buffering,
                "response_buffering": self.response_buffering,
                "tags": _array(self.tags),
                "ws_id": WORKSPACE_ID,
                "created_at": self.created_at,
                "updated_at": self.updated_at,
            }
        )


@dataclass(frozen=True)
class Consumer:
    """A user of services."""

    id: str
    username: str | None = None
    custom_id: str | None = None
    tags: tuple[str, ...] | None = None
    created_at: int = 0
    updated_at: int = 0

    def to_dict(self) -> dict[str, object]:
        """The table that ``kong.client.get_consumer`` returns."""
        return _without_none(
            {
                "id": self.id,
                "username": self.username,
                "custom_id": self.custom_id,
                "tags": _array(self.tags),
                "created_at": self.created_at,
                "updated_at": self.updated_at,
            }
        )


@dataclass(frozen=True)
class Credential:
    """A consumer's credential. ``extra`` has the fields beside ``id`` and ``consumer``, such as ``key``."""

    id: str | None
    consumer_id: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def key(self) -> str | None:
        """The API key of a key-auth credential."""
        value = self.extra.get("key")
        return value if isinstance(value, str) else None

    def to_dict(self) -> dict[str, object]:
        """The table that ``kong.client.get_credential`` returns."""
        consumer = None if self.consumer_id is None else {"id": self.consumer_id}
        return _without_none({"id": self.id, "consumer": consumer, **self.extra})


@dataclass(frozen=True)
class Target:
    """An address of an upstream. With a weight of 0 it gets no traffic."""

    id: str
    host: str
    port: int
    weight: int = 100
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Upstream:
    """A name that services and plugins use for a set of targets."""

    id: str
    name: str
    targets: tuple[Target, ...] = ()
    host_header: str | None = None
    slots: int = 10000
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Vault:
    """A store of secrets. ``name`` is its kind; references use its ``prefix``."""

    id: str
    prefix: str
    name: str
    config: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class PluginConfig:
    """An entry of ``plugins``: a plugin configured globally, or for a service, a route, a consumer or several of these.

    ``config`` is the user's configuration with the schema's defaults filled in; ``sequence`` differs between
    two loads of a configuration. ``line`` is the entry's line in its file.
    """

    id: str
    name: str
    config: Mapping[str, object]
    service_id: str | None = None
    route_id: str | None = None
    consumer_id: str | None = None
    instance_name: str | None = None
    protocols: tuple[str, ...] = ("grpc", "grpcs", "http", "https")
    enabled: bool = True
    tags: tuple[str, ...] | None = None
    sequence: int = 0
    consumer_group: str | None = None
    line: int | None = None

    @property
    def is_global(self) -> bool:
        """Whether it applies to every request, regardless of service, route and consumer."""
        return not any((self.service_id, self.route_id, self.consumer_id, self.consumer_group))


@dataclass(frozen=True)
class Config:
    """One declarative configuration. Mappings are by id unless their name says otherwise.

    ``file`` is None if the configuration does not come from a file. ``notices`` has all notices about it; ``skipped``
    has the notices about features that the gateway does not have, and ``refused`` the notices about fields that the
    open-source Kong refuses.
    """

    services: Mapping[str, Service] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)
    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    consumers: Mapping[str, Consumer] = field(default_factory=dict)
    credentials: Mapping[str, Credential] = field(default_factory=dict)
    plugins: tuple[PluginConfig, ...] = ()
    upstreams_by_name: Mapping[str, Upstream] = field(default_factory=dict)
    consumers_by_username: Mapping[str, Consumer] = field(default_factory=dict)
    credentials_by_key: Mapping[str, Credential] = field(default_factory=dict)
    vaults: tuple[Vault, ...] = ()
    file: Path | None = None
    notices: tuple[Problem, ...] = ()
    skipped: tuple[Problem, ...] = ()
    refused: tuple[Problem, ...] = ()

    def consumer(self, consumer_id: str, search_by_username: bool = False) -> Consumer | None:
        """A consumer by its id or, with ``search_by_username``, also by its username."""
        consumer = self.consumers.get(consumer_id)
        if consumer is None and search_by_username:
            consumer = self.consumers_by_username.get(consumer_id)
        return consumer
