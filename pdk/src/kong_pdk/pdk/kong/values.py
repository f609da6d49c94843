"""What PDK functions take and give, beside numbers and text."""

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
"""Headers: names in lower case to their values, a single one too."""

Query = dict[str, list[str | Literal[True]]]
"""Query arguments: names to their values, a single one too; True for an argument without a value."""


class Captures(TypedDict):
    """What the groups of the route's regular expression matched."""

    unnamed: dict[int, str]
    """Groups by number; the first one is 1, as in Lua."""

    named: dict[str, str]


class Key(TypedDict):
    """A reference to an entity, and what every entity has."""

    id: str


class Route(Key, total=False):
    """A route. What is not set is not there: ``route.get("name")``."""

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
    """A service. What is not set is not there."""

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
    """A consumer. What is not set is not there."""

    username: str
    custom_id: str
    tags: list[str]
    created_at: int
    """Seconds since 1970."""

    updated_at: int
    """Seconds since 1970; not over ProtoBuf:1 with the stock interface."""


class Credential(Key, total=False):
    """What a consumer was authenticated with. Each authentication plugin adds fields of its own.

    Over ProtoBuf:1 with the stock interface there are ``id`` and ``consumer_id`` alone.
    """

    consumer_id: str
    consumer: Key
    key: str
    username: str
    tags: list[str]
    created_at: int
    """Seconds since 1970."""


class SharedDict(TypedDict):
    """A shared memory zone of nginx: bytes, or texts with the unit that was asked for."""

    allocated_slabs: int | float | str
    capacity: int | float | str


class LuaVm(TypedDict, total=False):
    """The Lua virtual machine of an nginx worker."""

    pid: int
    http_allocated_gc: int | float | str
    """What its garbage collector holds: bytes, or a text with the unit that was asked for."""


class MemoryStats(TypedDict):
    """The memory of a node."""

    lua_shared_dicts: dict[str, SharedDict]
    """By name; over ProtoBuf:1 with the stock interface ``kong`` and ``kong_db_cache`` alone."""

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
    """How a value comes into the serialized log."""

    mode: Literal["set", "add", "replace"]
    """``add`` does nothing where the key exists, ``replace`` where it does not; ``set``, the default, always sets."""


class Reference(TypedDict, total=False):
    """The parts of a reference to a secret, ``{vault://PREFIX/RESOURCE/KEY?OPTIONS}``."""

    name: str
    resource: str
    key: str
    config: dict[str, Any]
    version: int
