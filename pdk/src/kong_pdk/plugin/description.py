"""The description of a plugin (phases, priority, version, schema) and the dump that Kong reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from kong_pdk.protocol import Protocol
from kong_pdk.schema import Field

DEFAULT_VERSION = "0.1.0"
DEFAULT_PRIORITY = 0


@dataclass(frozen=True)
class Source:
    """A plugin that was found but not loaded: its name, and the file that defines ``Plugin``."""

    name: str
    file: Path


@dataclass(frozen=True)
class Description:
    """A loaded plugin as plain data, which travels between processes as JSON.

    ``schema`` holds the fields of the plugin's configuration, each a one-key dict. ``engine`` and ``workers`` are None
    where the plugin does not set them. ``preload`` says that the master imports it, for the workers to share.
    ``timeout`` is how long a handler may take, in seconds, infinite for no limit, and ``on_error`` is ``open`` or
    ``closed``; both are None where the plugin does not set them.
    ``async_phases`` are the phases whose methods are ``async def``. ``needs_threads`` says what in its source needs
    threads; None where nothing does. ``warnings`` has a line for each attribute that is ignored, although its author
    may expect it to take effect.
    """

    name: str
    file: Path
    version: str
    priority: int
    phases: tuple[str, ...]
    schema: tuple[Field, ...]
    lua_style: bool = True
    engine: str | None = None
    workers: int | None = None
    preload: bool = False
    timeout: float | None = None
    on_error: str | None = None
    async_phases: tuple[str, ...] = ()
    needs_threads: str | None = None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data of the description, for JSON."""
        values = {each.name: getattr(self, each.name) for each in fields(Description)}
        return {**values, "file": str(self.file)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Description:
        """The description behind the result of :meth:`to_dict`; JSON's lists become tuples again."""
        lists = ("phases", "schema", "async_phases", "warnings")
        tuples = {name: tuple(data[name]) for name in lists if name in data}
        return Description(**{**data, **tuples, "file": Path(data["file"])})


@dataclass(frozen=True)
class Plugin(Description):
    """A plugin that is loaded in this process: its description, and the author's class."""

    cls: type = field(kw_only=True)


def dump(descriptions: Iterable[Description], protocol: Protocol) -> str:
    """The JSON that a query command prints for Kong: one line, without a line break at its end.

    ``protocol`` decides the shape of the dump, and Kong then speaks this protocol to the server. Kong 3.9 and later
    register only the first plugin of a dump. Raises :class:`ValueError` for any other protocol.
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


def kong_schema(plugin: Description) -> dict[str, Any]:
    """The schema of a plugin in the form that Kong expects, with the fields of the configuration inside."""
    config = {"type": "record", "fields": list(plugin.schema)}
    return {"name": plugin.name, "fields": [{"config": config}]}
