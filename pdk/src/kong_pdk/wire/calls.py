"""The calls of Kong to a plugin server and their answers, for both protocols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class GetPluginNames:
    """Asks which plugins the server has."""


@dataclass(frozen=True)
class GetPluginInfo:
    """Asks about a plugin."""

    name: str


@dataclass(frozen=True)
class StartInstance:
    """Makes an instance of a plugin; ``config`` is a JSON object."""

    name: str
    config: bytes


@dataclass(frozen=True)
class GetInstanceStatus:
    """Asks about an instance."""

    instance_id: int


@dataclass(frozen=True)
class CloseInstance:
    """Ends an instance."""

    instance_id: int


@dataclass(frozen=True)
class HandleEvent:
    """Runs the handler of an instance for a phase, ``event_name``."""

    instance_id: int
    event_name: str


Call: TypeAlias = GetPluginNames | GetPluginInfo | StartInstance | GetInstanceStatus | CloseInstance | HandleEvent


@dataclass(frozen=True)
class PluginNames:
    """The answer to :class:`GetPluginNames`."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class PluginInfo:
    """The answer to :class:`GetPluginInfo`. ``schema`` is a JSON text; times are Unix seconds."""

    name: str
    phases: tuple[str, ...] = ()
    version: str = ""
    priority: int = 0
    schema: str = ""
    updated_at: int = 0
    loaded_at: int = 0


@dataclass(frozen=True)
class InstanceStatus:
    """The answer to :class:`StartInstance`, :class:`GetInstanceStatus` and :class:`CloseInstance`.

    ``started_at`` is in Unix seconds.
    """

    name: str
    instance_id: int
    config: object = None
    started_at: int = 0


Answer: TypeAlias = PluginNames | PluginInfo | InstanceStatus | None
