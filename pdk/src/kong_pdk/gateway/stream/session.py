"""One TCP connection on its way through the stream subsystem."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from kong_pdk.gateway.exchange import Endpoints, Exchange, Node, bare_request

# What nginx calls the end of a session; these are not sent to anybody.
OK = 200
INTERNAL_ERROR = 500
BAD_GATEWAY = 502


@dataclass
class Session(Exchange):
    """A client's connection, its routing and its ends, in the place that an HTTP request has in its subsystem.

    The request is empty but for the client's address: the functions that read more of it are refused before they
    look. Counts are in bytes; ``received`` and ``sent`` are the client's side. ``duration`` is in seconds, and is set
    when the session is over.
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
        """What nginx adds to a line of the error log: whose connection, and where it has arrived."""
        return f"client: {self.request.client_ip}, server: {self.server_ip}:{self.server_port}"

    def seconds(self) -> float:
        """How long the session has lasted, or lasts."""
        return max(0.0, time.time() - self.start_time) if self.duration is None else self.duration


def session_of(node: Node, endpoints: Endpoints) -> Session:
    """The session of a connection that has just been made."""
    return Session(
        node=node,
        request=bare_request(endpoints, "tcp"),
        request_id="",
        phase="preread",
        server_ip=endpoints.destination_ip,
        server_port=endpoints.destination_port,
    )
