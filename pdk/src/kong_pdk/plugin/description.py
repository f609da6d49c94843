"""What Kong is told of a plugin: its phases, priority, version and schema."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kong_pdk.protocol import Protocol
from kong_pdk.schema.attributes import Field

DEFAULT_VERSION = "0.1.0"
DEFAULT_PRIORITY = 0


@dataclass(frozen=True)
class Source:
    """A plugin that discovery found, not loaded: its name and the file that has ``Plugin``."""

    name: str
    file: Path


@dataclass(frozen=True)
class Plugin:
    """A plugin loaded in this process. ``schema`` holds the fields of its configuration, each a one-key dict."""

    name: str
    file: Path
    cls: type
    version: str
    priority: int
    phases: tuple[str, ...]
    schema: tuple[Field, ...]
    lua_style: bool = True
    engine: str | None = None
    workers: int | None = None
    warnings: tuple[str, ...] = ()
    """What an author may expect to count, and does not: a line each."""

    def describe(self) -> Description:
        """The plain data about this plugin."""
        return Description(
            self.name,
            str(self.file),
            self.version,
            self.priority,
            self.phases,
            self.schema,
            self.lua_style,
            self.engine,
            self.workers,
            self.warnings,
        )


@dataclass(frozen=True)
class Description:
    """A plugin as plain data."""

    name: str
    file: str
    version: str
    priority: int
    phases: tuple[str, ...]
    schema: tuple[Field, ...]
    lua_style: bool = True
    engine: str | None = None
    workers: int | None = None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Description:
        """The description that :meth:`to_dict` made ``data`` of; JSON's lists become tuples again."""
        lists = ("phases", "schema", "warnings")
        return cls(**{**data, **{name: tuple(data[name]) for name in lists if name in data}})


def dump(descriptions: Iterable[Description], protocol: Protocol) -> str:
    """The JSON that Kong's query command prints: one line, without a line break at its end.

    ``protocol`` decides the shape and with it what Kong speaks to the server afterwards. Kong 3.9 and later
    register the first plugin of a dump only. Raises :class:`ValueError` for another protocol.
    """
    plugins = [_kong_form(description) for description in descriptions]
    if protocol == "MsgPack:1":
        return json.dumps(plugins)
    if protocol == "ProtoBuf:1":
        return json.dumps({"Protocol": protocol, "Plugins": plugins})
    raise ValueError(f"the protocol is MsgPack:1 or ProtoBuf:1, not {protocol}")


def _kong_form(description: Description) -> dict[str, Any]:
    return {
        "Name": description.name,
        "Version": description.version,
        "Priority": description.priority,
        "Phases": list(description.phases),
        "Schema": kong_schema(description),
    }


def kong_schema(plugin: Plugin | Description) -> dict[str, Any]:
    """The schema of a plugin as Kong wants it, around the fields of the configuration."""
    config = {"type": "record", "fields": list(plugin.schema)}
    return {"name": plugin.name, "fields": [{"config": config}]}
