"""One client request on its way through the gateway: what was received, what goes on, what comes back.

Phases and PDK functions read and change an :class:`Exchange`; the proxy acts on it. A :class:`Node` is the gateway as
one request sees it, and :class:`Ends` are the addresses of a client's connection.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kong_pdk.gateway.entities import Config
from kong_pdk.gateway.gateway_settings import Settings
from kong_pdk.gateway.nginx_logs import ErrorLog

if TYPE_CHECKING:
    from kong_pdk.gateway.entities import Consumer, Credential, Route, Service

VERSION = "3.9.3"


@dataclass
class Statistics:
    """Connections and requests since the start, as nginx counts them."""

    connections_active: int = 0
    connections_accepted: int = 0
    connections_handled: int = 0
    requests: int = 0
    reading: int = 0
    writing: int = 0

    @property
    def waiting(self) -> int:
        """Connections that are open without a request."""
        return max(0, self.connections_active - self.reading - self.writing)


@dataclass
class InspectSwitch:
    """Whether ``kong.log.inspect`` writes anything, until the next reload."""

    on: bool = True


@dataclass(frozen=True)
class Node:
    """One generation of the gateway. A reload makes a new one; requests in flight keep theirs."""

    id: str
    hostname: str
    settings: Settings
    config: Config
    log: ErrorLog
    statistics: Statistics = field(default_factory=Statistics)
    started_at: float = field(default_factory=time.time)
    inspect_switch: InspectSwitch = field(default_factory=InspectSwitch)


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

    def log_context(self) -> str:
        """What nginx adds to a line of the error log: who is served, and which request."""
        request = self.request
        target = request.raw_path + (b"?" + request.raw_query if request.raw_query else b"")
        line = f"{request.method} {target.decode('utf-8', 'replace')} HTTP/{request.http_version}"
        return (
            f'client: {request.client_ip}, server: kong, request: "{line}", host: "{request.host}", '
            f'request_id: "{self.request_id}"'
        )


@dataclass(frozen=True)
class Endpoints:
    """Addresses and ports: the client's, and where it has arrived."""

    source_ip: str
    source_port: int
    destination_ip: str
    destination_port: int


def endpoints_of(connection: socket.socket) -> Endpoints:
    """Both ends of a connection. Raises OSError when it is gone."""
    source, destination = connection.getpeername(), connection.getsockname()
    return Endpoints(source[0], source[1], destination[0], destination[1])


def bare_request(endpoints: Endpoints, scheme: str) -> Request:
    """A request in which nothing stands but the client's address."""
    return Request(
        method="",
        raw_path=b"",
        raw_query=b"",
        http_version="",
        headers=[],
        scheme=scheme,
        host="",
        port=endpoints.destination_port,
        client_ip=endpoints.source_ip,
        client_port=endpoints.source_port,
        read_body=_no_body,
    )


async def _no_body() -> Body:
    return Body()
