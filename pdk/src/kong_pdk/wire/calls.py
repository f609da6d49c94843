"""What Kong asks of a plugin server and what it is answered, alike for both protocols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class GetPluginNames:
    """Which plugins does this server serve?"""


@dataclass(frozen=True)
class GetPluginInfo:
    """What is known of one plugin?"""

    name: str


@dataclass(frozen=True)
class StartInstance:
    """Make an instance of a plugin from a configuration, a JSON text."""

    name: str
    config: bytes


@dataclass(frozen=True)
class GetInstanceStatus:
    """What is known of one instance?"""

    instance_id: int


@dataclass(frozen=True)
class CloseInstance:
    """Forget an instance."""

    instance_id: int


@dataclass(frozen=True)
class HandleEvent:
    """Run an instance's handler of a phase."""

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
