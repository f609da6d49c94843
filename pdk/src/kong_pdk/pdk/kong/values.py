"""Types of the arguments and results of PDK functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

HeaderValue = str | bytes | int | float | bool | Sequence[str | bytes | int | float | bool]
"""The value of a header to set; a list for several headers of one name."""

QueryValue = str | bytes | int | float | bool | Sequence[str | bytes | int | float | bool]
"""The value of a query argument to set; True for one without a value, a list for several of one name."""

Body = str | bytes | Mapping[str, Any] | Sequence[Any]
"""The body of a response; a dict or a list becomes JSON."""

Headers = dict[str, list[str]]
"""Headers: names in lower case to lists of values, even for a single value."""

Query = dict[str, list[str | Literal[True]]]
"""Query arguments: names to lists of values, even for a single value; True for an argument without a value."""


class Captures(TypedDict):
    """The groups of the route's regular expression, with the text that each matched."""

    unnamed: dict[int, str]
    """Groups by number; the first one is 1, as in Lua."""

    named: dict[str, str]


class Key(TypedDict):
    """A reference to an entity, and the base of all entities."""

    id: str


class Route(Key, total=False):
    """A route. Fields that are not set are missing: ``route.get("name")``."""

    name: str
    protocols: list[str]
    methods: list[str]
    hosts: list[str]
    paths: list[str]
    headers: dict[str, list[str]]
    """Not over ProtoBuf:1 with the stock interface."""

    snis: list[str]
    sources: list[dict[str, Any]]
    destinations: list[dict[str, Any]]
    https_redirect_status_code: int
    regex_priority: int
    path_handling: str
    strip_path: bool
    preserve_host: bool
    request_buffering: bool
    response_buffering: bool
    service: Key
    tags: list[str]
    ws_id: str
    created_at: int
    """Seconds since 1970."""

    updated_at: int
    """Seconds since 1970."""


class Service(Key, total=False):
    """A service. Fields that are not set are missing."""

    name: str
    protocol: str
    host: str
    port: int
    path: str
    retries: int
    connect_timeout: int
    """Milliseconds."""

    write_timeout: int
    """Milliseconds."""

    read_timeout: int
    """Milliseconds."""

    enabled: bool
    client_certificate: Key
    tls_verify: bool
    tls_verify_depth: int
    ca_certificates: list[str]
    tags: list[str]
    ws_id: str
    created_at: int
    """Seconds since 1970."""

    updated_at: int
    """Seconds since 1970."""


class Consumer(Key, total=False):
    """A consumer. Fields that are not set are missing."""

    username: str
    custom_id: str
    tags: list[str]
    created_at: int
    """Seconds since 1970."""

    updated_at: int
    """Seconds since 1970; not over ProtoBuf:1 with the stock interface."""


class Credential(Key, total=False):
    """The credential of a consumer. Each authentication plugin adds fields of its own.

    Over ProtoBuf:1 with the stock interface it has only ``id`` and ``consumer_id``.
    """

    consumer_id: str
    consumer: Key
    key: str
    username: str
    tags: list[str]
    created_at: int
    """Seconds since 1970."""


class SharedDict(TypedDict):
    """A shared memory zone of nginx: sizes in bytes, or texts with the requested unit."""

    allocated_slabs: int | float | str
    capacity: int | float | str


class LuaVm(TypedDict, total=False):
    """The Lua virtual machine of an nginx worker."""

    pid: int
    http_allocated_gc: int | float | str
    """The memory of its garbage collector in bytes, or a text with the requested unit."""


class MemoryStats(TypedDict):
    """The memory of a node."""

    lua_shared_dicts: dict[str, SharedDict]
    """By name; over ProtoBuf:1 with the stock interface only ``kong`` and ``kong_db_cache``."""

    workers_lua_vms: list[LuaVm]


class Statistics(TypedDict):
    """Connections and requests of nginx since it started."""

    connections_accepted: int
    connections_active: int
    connections_handled: int
    connections_reading: int
    connections_waiting: int
    connections_writing: int
    total_requests: int


class SerializeOptions(TypedDict, total=False):
    """How a value is set in the serialized log entry."""

    mode: Literal["set", "add", "replace"]
    """``add`` does nothing where the key exists, ``replace`` where it does not; ``set``, the default, always sets."""


class Reference(TypedDict, total=False):
    """The parts of a reference to a secret, ``{vault://PREFIX/RESOURCE/KEY?OPTIONS}``."""

    name: str
    resource: str
    key: str
    config: dict[str, Any]
    version: int
