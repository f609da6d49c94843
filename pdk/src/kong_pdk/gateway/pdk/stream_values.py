"""Values of the PDK that differ in the stream subsystem: nginx's variables and the log's record."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from kong_pdk.gateway.entities import WORKSPACE_ID
from kong_pdk.gateway.stream.session import Session

_VARIABLES: dict[str, Callable[[Session], str]] = {
    "remote_addr": lambda session: session.request.client_ip,
    "remote_port": lambda session: str(session.request.client_port),
    "realip_remote_addr": lambda session: session.request.client_ip,
    "realip_remote_port": lambda session: str(session.request.client_port),
    "server_addr": lambda session: session.server_ip,
    "server_port": lambda session: str(session.server_port),
    "protocol": lambda session: "TCP",
    "status": lambda session: f"{session.status:03d}",
    "bytes_received": lambda session: str(session.received),
    "bytes_sent": lambda session: str(session.sent),
    "session_time": lambda session: f"{session.seconds():.3f}",
    "hostname": lambda session: session.node.hostname,
    "pid": lambda session: str(os.getpid()),
    "msec": lambda session: f"{time.time():.3f}",
    "time_iso8601": lambda session: time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
}


def variable(session: Session, name: str) -> str | None:
    """A variable of nginx in a session; None if this gateway does not have it."""
    getter = _VARIABLES.get(name)
    return None if getter is None else getter(session)


def record(session: Session) -> dict[str, Any]:
    """The log's record of a session without route, service and consumer. Times are in milliseconds."""
    return {
        "session": {
            "status": session.status,
            "received": session.received,
            "sent": session.sent,
            "server_port": session.server_port,
        },
        "upstream": {"received": session.upstream_received, "sent": session.upstream_sent},
        "latencies": {"session": int(session.seconds() * 1000), "kong": session.proxy_latency or 0},
        "client_ip": session.request.client_ip,
        "started_at": int(session.start_time * 1000),
        "tries": session.tries,
        "workspace": WORKSPACE_ID,
        "workspace_name": "default",
    }
