"""The read-only status endpoint: ``GET /status`` and ``GET /status/ready``."""

from __future__ import annotations

import json

from kong_pdk.gateway import KONG_VERSION
from kong_pdk.gateway.app import Application
from kong_pdk.gateway.client_side import Receive, Scope, Send

_EMPTY = "no configuration available (empty configuration present)"


class Status:
    """The status listener's ASGI application."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, answer = self._answer(scope["method"], scope["path"])
        body = json.dumps(answer, separators=(",", ":")).encode()
        headers = [
            (b"Content-Type", b"application/json; charset=utf-8"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Server", f"kong/{KONG_VERSION}".encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _answer(self, method: str, path: str) -> tuple[int, dict[str, object]]:
        if method not in {"GET", "HEAD"} or path.rstrip("/") not in {"/status", "/status/ready"}:
            return 404, {"message": "Not found"}
        if path.rstrip("/") == "/status/ready":
            return self._ready()
        return 200, {"server": self._server(), "database": {"reachable": True}}

    def _ready(self) -> tuple[int, dict[str, object]]:
        config = self._application.generation.node.config
        if not (config.services or config.routes or config.plugins or config.consumers or config.upstreams):
            return 503, {"message": _EMPTY}
        return 200, {"message": "ready"}

    def _server(self) -> dict[str, int]:
        statistics = self._application.generation.node.statistics
        return {
            "connections_accepted": statistics.connections_accepted,
            "connections_active": statistics.connections_active,
            "connections_handled": statistics.connections_handled,
            "connections_reading": statistics.reading,
            "connections_waiting": statistics.waiting,
            "connections_writing": statistics.writing,
            "total_requests": statistics.requests,
        }
