"""One client request on its way through the gateway: the request, the upstream's request, and the responses.

Phases and PDK functions read and change an :class:`Exchange`; the proxy acts on it. A :class:`Node` is the state of the
gateway that one request sees, and :class:`Endpoints` are the addresses of a client's connection.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from kong_pdk.gateway.entities import Config, Consumer, Credential, Route, Service
from kong_pdk.gateway.gateway_settings import Settings
from kong_pdk.gateway.nginx_logs import ErrorLog


@dataclass
class Statistics:
    """Counts of connections and requests since the start, with nginx's names."""

    connections_active: int = 0
    connections_accepted: int = 0
    connections_handled: int = 0
    requests: int = 0
    reading: int = 0
    writing: int = 0

    @property
    def waiting(self) -> int:
        """Open connections without a request."""
        return max(0, self.connections_active - self.reading - self.writing)


@dataclass
class InspectSwitch:
    """Whether ``kong.log.inspect`` writes to the log. A reload turns it on again."""

    on: bool = True


@dataclass(frozen=True)
class Node:
    """The gateway with one configuration. A reload makes a new node; requests in flight keep their old one."""

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
    """A PDK call for which Kong's Lua code raises an error: wrong phase, wrong argument."""


@dataclass
class Exit(BaseException):
    """The response of ``kong.response.exit`` or ``.error``, which replaces the upstream's.

    ``body`` is None for nginx's own page (``exit`` without a body over MsgPack:1).
    """

    status: int
    body: bytes | None
    headers: RawHeaders = field(default_factory=list)


@dataclass
class Body:
    """A request body: in memory, or in a file if it is larger than nginx's buffer."""

    content: bytes = b""
    file: Path | None = None


@dataclass
class Request:
    """The request as the client sent it. Headers keep the client's order and capitals; compare names in lower case."""

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
    """The request to the upstream. PDK calls of ``kong.service.*`` change it until it is sent.

    ``method``, ``raw_query`` and ``headers`` begin as copies of the client's: they are nginx's current request, which
    ``kong.request.*`` reads and ``kong.service.request.*`` changes from ``rewrite`` on. Headers that the proxy adds
    (Host, Via, X-Forwarded-*, X-Real-IP, X-Kong-Request-Id, Connection) are never in ``headers``; they are added when
    the request is sent. ``body`` is None for the client's own body. ``path``, ``scheme``, ``host`` and ``port`` are
    set together with the route, after ``rewrite``. ``host_header`` is the Host that a plugin has set; None means
    Kong's rules for the service. ``upstream_name`` is the upstream that a plugin has chosen. Timeouts are in seconds.
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
    """The upstream's response, unchanged. ``body`` is None unless it is buffered."""

    status: int
    headers: RawHeaders
    body: bytes | None = None


@dataclass
class Response:
    """The response to the client while it is built.

    Before the upstream has answered, ``headers`` has only the headers that plugins have set. The upstream's status
    and its headers of the same names then replace them. Afterwards (``response``, ``log``) ``status`` and ``headers``
    are the complete response, which plugins change in place. An :class:`Exit` replaces status, headers and body.
    ``source`` is the result of ``kong.response.get_source``.
    """

    status: int | None = None
    headers: RawHeaders = field(default_factory=list)
    body: bytes | None = None
    source: str = "service"


@dataclass
class Exchange:
    """A client's request, its routing, its consumer and its response.

    ``stripped_prefix`` is the part of the path that ``strip_path`` removes, for X-Forwarded-Prefix.
    ``unnamed_captures`` of a regex path are its groups 1, 2, ..., including named groups; ``matched_path`` is group 0.
    ``upgrade`` is whether the client asks for WebSocket; the service accepts or refuses. The functions in ``at_end``
    are called when the client has its response, before ``log``. Latencies are in milliseconds.
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
        """The client and the request as nginx adds them to a line of its error log."""
        request = self.request
        target = request.raw_path + (b"?" + request.raw_query if request.raw_query else b"")
        line = f"{request.method} {target.decode('utf-8', 'replace')} HTTP/{request.http_version}"
        return (
            f'client: {request.client_ip}, server: kong, request: "{line}", host: "{request.host}", '
            f'request_id: "{self.request_id}"'
        )


@dataclass(frozen=True)
class Endpoints:
    """Addresses and ports of a connection: the client's (source) and the listener's (destination)."""

    source_ip: str
    source_port: int
    destination_ip: str
    destination_port: int


def endpoints_of(connection: socket.socket) -> Endpoints:
    """The endpoints of a connection. Raises OSError if it is already closed."""
    source, destination = connection.getpeername(), connection.getsockname()
    return Endpoints(source[0], source[1], destination[0], destination[1])


def bare_request(endpoints: Endpoints, scheme: str) -> Request:
    """A request of which only the addresses and the scheme are known."""
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
