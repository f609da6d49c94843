"""What one configuration means for the stream subsystem."""

from __future__ import annotations

from dataclasses import dataclass

from kong_pdk.gateway.plugins import Registry
from kong_pdk.gateway.stream.routes import StreamRouter


@dataclass(frozen=True)
class StreamSide:
    """Routes and plugins of TCP connections. The plugins' instances are not those of the HTTP subsystem."""

    router: StreamRouter
    registry: Registry
