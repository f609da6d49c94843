"""The gateway as one request sees it: who it is, what it was configured with, where its log goes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from kong_pdk.gateway.entities import Config
from kong_pdk.gateway.logs import ErrorLog
from kong_pdk.gateway.settings import Settings

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
class Inspection:
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
    inspection: Inspection = field(default_factory=Inspection)
