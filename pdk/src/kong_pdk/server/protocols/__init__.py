"""The protocols that Kong speaks with a plugin server. The first bytes of a connection tell which one it is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from kong_pdk.server.connection import Connection
from kong_pdk.server.deadlines import UnderWay
from kong_pdk.server.engines import Engine
from kong_pdk.server.instances import Instance, Instances
from kong_pdk.server.loop import Loop

REFUSE_SECONDS = 1.0
"""How long a peer that does not read may hold up the refusal of its event."""


class Serving(ABC):
    """What the protocols need of their server."""

    instances: Instances

    helpers: Engine
    """Runs what may block and is no handler: an author's ``__init__``, what asks the master or another worker."""

    is_stopping: bool
    """Whether the server takes no new connections, and ends when the calls in progress have ended."""

    begins_nothing: bool
    """Whether new events are left to others: the server is about to end."""

    running: set[UnderWay]
    """The calls in progress."""

    is_watching: bool
    """Whether the calls in progress are looked at, so that none takes too long."""

    longest_timeout: float
    """How long the start of an instance may take, in seconds."""

    @property
    @abstractmethod
    def loop_here(self) -> Loop:
        """The loop that this thread runs, or else the one for all that needs no other."""

    @abstractmethod
    def engine_of(self, instance: Instance, phase: str) -> Engine:
        """Give the engine that runs a phase."""

    @abstractmethod
    def look_soon(self) -> None:
        """Look after what waits for room or for Kong, in a moment. Called on the loop."""

    @abstractmethod
    def ended(self, call: UnderWay) -> None:
        """Note the end of a call in progress."""

    @abstractmethod
    def forget(self, connection: Connection) -> None:
        """Close a connection."""
