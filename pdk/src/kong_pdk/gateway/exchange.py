"""One client request on its way through the gateway: what was received, what goes on, what comes back.

Phases and PDK functions read and change an :class:`Exchange`; the proxy acts on it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from kong_pdk.gateway.entities import Consumer, Credential, Route, Service
    from kong_pdk.gateway.node import Node

RawHeaders = list[tuple[bytes, bytes]]


class Refused(Exception):
    """A PDK call that Kong's Lua side would have raised on: wrong phase, wrong argument."""


@dataclass
class Exit(BaseException):
    """``kong.response.exit`` or ``.error``: the answer the client gets instead of the upstream's.

    ``body`` is None for nginx's own page (MsgPack:1 without a body), bytes otherwise.
    """

    status: int
    body: bytes | None
    headers: RawHeaders = field(default_factory=list)


@dataclass
class Body:
    """A request body: in memory, or in a file when larger than nginx's buffer (8 KiB)."""

    content: bytes = b""
    file: Path | None = None


@dataclass
class Request:
    """The request as the client sent it. Header names keep the client's order; compare them lower-cased."""

    method: str
    raw_path: bytes
    raw_query: bytes
    http_version: str
    headers: RawHeaders
    scheme: str
    host: str
    port: int
    client_ip: str
    client_port: int
    read_body: Callable[[], Awaitable[Body]]
    tls_version: str | None = None


@dataclass
class UpstreamRequest:
    """What the proxy will send; PDK calls of ``kong.service.*`` change it before it leaves.

    ``method``, ``raw_query`` and ``headers`` begin as copies of the client's when the exchange is made: they are
    nginx's current request, which ``kong.request.*`` reads and ``kong.service.request.*`` changes, from
    ``rewrite`` on. What the proxy adds (Host, Via, X-Forwarded-*, X-Real-IP, X-Kong-Request-Id, Connection) is
    never in ``headers``; it is added when the request is sent. ``body`` is None for the client's own.
    ``path``, ``scheme``, ``host``, ``port`` are set when the route is found, after ``rewrite``.
    ``host_header`` is the Host to send when a plugin set one (None: by Kong's rules for the service).
    ``upstream_name`` names an upstream to balance over, when a plugin chose one.
    """

    method: str = "GET"
    scheme: str = "http"
    host: str = ""
    port: int = 80
    path: bytes = b"/"
    raw_query: bytes = b""
    headers: RawHeaders = field(default_factory=list)
    body: bytes | None = None
    host_header: str | None = None
    upstream_name: str | None = None
    retries: int = 5
    connect_timeout: float = 60.0
    write_timeout: float = 60.0
    read_timeout: float = 60.0
    tls_verify: bool | None = None
    tls_verify_depth: int | None = None
    buffering: bool = False


@dataclass
class ServiceResponse:
    """The upstream's answer, as it came."""

    status: int
    headers: RawHeaders
    body: bytes | None = None


@dataclass
class Response:
    """The answer to the client under construction.

    Before the upstream has answered, ``headers`` hold only what plugins have set. Of a header that the upstream
    sends too, the upstream's wins, and its status always does. From then on (``response``, ``log``) ``status``
    and ``headers`` are the whole answer, which plugins change in place. An :class:`Exit` sets its status, headers
    and body over what is there.
    """

    status: int | None = None
    headers: RawHeaders = field(default_factory=list)
    body: bytes | None = None
    source: str = "service"


@dataclass
class Exchange:
    """A client's request, its routing, its consumer and its answer.

    ``stripped_prefix`` is what ``strip_path`` took off the path, for X-Forwarded-Prefix. ``unnamed_captures``
    of a regex path are groups 1, 2, ..., the named ones among them; ``matched_path`` is group 0.
    ``upgrade`` is whether the client asks to leave HTTP for WebSocket, which the service is to decide.
    ``at_end`` are to be called when the client has its response, before ``log``.
    """

    subsystem: ClassVar[str] = "http"

    node: Node
    request: Request
    request_id: str
    phase: str = "rewrite"
    route: Route | None = None
    service: Service | None = None
    stripped_prefix: str | None = None
    unnamed_captures: list[str] = field(default_factory=list)
    named_captures: dict[str, str] = field(default_factory=dict)
    matched_path: str = ""
    consumer: Consumer | None = None
    credential: Credential | None = None
    upstream: UpstreamRequest = field(default_factory=UpstreamRequest)
    upgrade: bool = False
    service_response: ServiceResponse | None = None
    response: Response = field(default_factory=Response)
    shared: dict[str, object] = field(default_factory=dict)
    nginx_ctx: dict[str, object] = field(default_factory=dict)
    serialize_values: dict[str, object] = field(default_factory=dict)
    at_end: list[Callable[[], None]] = field(default_factory=list)
    proxy_latency: int | None = None
    upstream_latency: int | None = None
    tries: list[dict[str, object]] = field(default_factory=list)
    start_time: float = field(default_factory=time.time)

    def described(self) -> str:
        """What nginx adds to a line of the error log: who is served, and which request."""
        request = self.request
        target = request.raw_path + (b"?" + request.raw_query if request.raw_query else b"")
        line = f"{request.method} {target.decode('utf-8', 'replace')} HTTP/{request.http_version}"
        return (
            f'client: {request.client_ip}, server: kong, request: "{line}", host: "{request.host}", '
            f'request_id: "{self.request_id}"'
        )
