"""The protocols that Kong speaks with a plugin server. The first bytes of a connection tell which one it is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from kong_pdk.server.connection import Connection
from kong_pdk.server.engines import Engine
from kong_pdk.server.instances import Instance, Instances
from kong_pdk.server.loop import Loop

SNIFFED = 4
"""How many bytes tell the protocols apart."""


class Serving(ABC):
    """What the protocols need of their server."""

    instances: Instances

    helpers: Engine
    """Runs what may block and is no handler: an author's ``__init__``, what asks the master or another worker."""

    is_stopping: bool
    """Whether the server takes no new connections, and ends when the calls in progress have ended."""

    running: set[object]
    """The calls in progress."""

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
    def ended(self, call: object) -> None:
        """Note the end of a call in progress."""

    @abstractmethod
    def forget(self, connection: Connection) -> None:
        """Close a connection."""


def is_msgpack(start: bytes) -> bool:
    """Tell a MessagePack-RPC request from the length of a frame of ProtoBuf:1.

    A request is an array of four elements (0x94) that begins with 0. An id follows: one byte up to 0x7f and then the
    first byte of a string (from 0xa0 on), or several bytes, the first of them from 0xcc on. Read as the length of a
    frame, these bytes mean 13 MB or more.
    """
    return start[:2] == b"\x94\x00" and (start[2] >= 0xCC or start[3] >= 0xA0)
