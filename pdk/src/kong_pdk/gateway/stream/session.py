"""One client connection in the stream subsystem."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from kong_pdk.gateway.exchange import Endpoints, Exchange, Node, bare_request

# nginx's statuses of a session, for logs; they are not sent to the client.
OK = 200
INTERNAL_ERROR = 500
BAD_GATEWAY = 502


@dataclass
class Session(Exchange):
    """A client's TCP connection as an exchange.

    Only the addresses of its request are set; PDK functions that read more of it are refused in this subsystem.
    Counts are in bytes; ``received`` and ``sent`` are those of the client's connection. ``duration`` is in seconds,
    and set at the end of the session.
    """

    subsystem: ClassVar[str] = "stream"

    server_ip: str = ""
    server_port: int = 0
    status: int = OK
    received: int = 0
    sent: int = 0
    upstream_received: int = 0
    upstream_sent: int = 0
    duration: float | None = None

    def log_context(self) -> str:
        """The client and the listener as nginx adds them to a line of its error log."""
        return f"client: {self.request.client_ip}, server: {self.server_ip}:{self.server_port}"

    def seconds(self) -> float:
        """The duration of the session, so far or in total."""
        return max(0.0, time.time() - self.start_time) if self.duration is None else self.duration


def session_of(node: Node, endpoints: Endpoints) -> Session:
    """The session of a new connection."""
    return Session(
        node=node,
        request=bare_request(endpoints, "tcp"),
        request_id="",
        phase="preread",
        server_ip=endpoints.destination_ip,
        server_port=endpoints.destination_port,
    )
