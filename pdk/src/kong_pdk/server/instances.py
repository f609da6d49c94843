"""Instances: plugins with a configuration. Their ids come from their content."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

from kong_pdk.logs import Once
from kong_pdk.plugin import Plugin
from kong_pdk.server.contents import Content, Contents, ContentTable
from kong_pdk.wire.text import decode

IDLE_SECONDS = 3600.0
"""An instance without events for so long is let go; the next event has it made again."""

MAKING_SECONDS = 60.0
"""How long a worker of Kong waits for the instance that is being made for another one; its own limit is as long."""

_INTERNAL = ("route_id", "service_id", "consumer_id", "plugin_instance_name")


class InstanceError(Exception):
    """An instance that cannot be made; the message says why."""


@dataclass
class Instance:
    """One plugin with one configuration."""

    id: int
    plugin: Plugin
    config: dict[str, Any]
    internal: dict[str, Any]
    handler: Any
    digest: bytes
    started_at: float = field(default_factory=time.time)
    used_at: float = field(default_factory=time.monotonic)
    said: Once = field(default_factory=Once)
    """What the log has about its handlers that each request would say again."""


class Instances:
    """The instances of a process, safe to use from many threads."""

    def __init__(self, plugins: Iterable[Plugin], contents: Contents | None = None) -> None:
        """:param plugins: those that this server serves.

        :param contents: what all processes of the server share; this process has its own where None.
        """
        self.plugins = {plugin.name: plugin for plugin in plugins}
        self.said = Once()
        """What the log has about instances that cannot be made."""
        self._contents = ContentTable() if contents is None else contents
        self._instances: dict[int, Instance] = {}
        self._making: dict[int, Future[Instance]] = {}
        self._lock = threading.Lock()

    def start(self, name: str, config: bytes) -> Instance:
        """Make an instance, or give the one that there is of this content.

        :param config: a JSON object, Kong's internal keys included.
        :raises InstanceError: no such plugin, or no JSON object.
        :raises Exception: whatever the plugin's ``__init__`` raises.
        """
        plugin = self.plugins.get(name)
        if plugin is None:
            raise InstanceError(f"there is no plugin {name} here, only {', '.join(sorted(self.plugins)) or 'none'}")
        parsed = _parse(name, config)
        digest = _digest(name, parsed)
        id = self._contents.keep(digest, Content(name, config))
        with self._lock:
            self._let_idle_go()
            known = self._instances.get(id)
            if known is not None and known.digest == digest:
                known.used_at = time.monotonic()
                return known
            making = self._making.get(id)
            if making is None:
                made = self._making[id] = Future()
        if making is not None:  # for another worker of Kong: __init__ runs once
            return _wait(name, making)
        self._make(id, plugin, parsed, digest, made)
        return made.result()

    def _make(self, id: int, plugin: Plugin, config: dict[str, Any], digest: bytes, made: Future[Instance]) -> None:
        mine, internal = _split(plugin, config)
        try:
            instance = Instance(id, plugin, mine, internal, plugin.cls(_copy(plugin.name, mine)), digest)
        except BaseException as error:  # noqa: BLE001  # it is raised by result()
            with self._lock:
                del self._making[id]
            made.set_exception(error)
            return
        with self._lock:
            del self._making[id]
            self._instances[id] = instance
        made.set_result(instance)

    def get(self, id: int) -> Instance | None:
        """Look an instance up by its id, for an event; make it if another process of the server made it first.

        :raises Exception: whatever :meth:`start` raises.
        """
        found = self._instances.get(id)
        if found is not None:
            found.used_at = time.monotonic()
            return found
        content = self._contents.find(id)
        if content is None:
            return None
        made = self.start(*content)
        return made if made.id == id else None

    def name_of(self, id: int) -> str:
        """Name the plugin of an instance, for a message."""
        with contextlib.suppress(InstanceError):
            content = self._contents.find(id)
            if content is not None:
                return content.name
        return f"instance {id}"

    def close(self, id: int) -> Instance | None:
        """Forget an instance. Closing one that is not there is no error: Kong may be late."""
        self._contents.drop(id)
        return self.discard(id)

    def discard(self, id: int) -> Instance | None:
        """Let go an instance that was closed in another process."""
        with self._lock:
            return self._instances.pop(id, None)

    def all(self) -> list[Instance]:
        """List the instances there are."""
        with self._lock:
            return list(self._instances.values())

    def _let_idle_go(self) -> None:
        limit = time.monotonic() - IDLE_SECONDS
        for id in [id for id, instance in self._instances.items() if instance.used_at < limit]:
            del self._instances[id]


def _wait(name: str, making: Future[Instance]) -> Instance:
    try:
        return making.result(MAKING_SECONDS)
    except FutureTimeout:
        if making.done():  # it is the exception of the plugin's __init__
            raise
        raise InstanceError(f"{name}: __init__ has not returned after {MAKING_SECONDS:g} s") from None


def _parse(name: str, config: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(decode(config) or "{}")
    except (ValueError, RecursionError) as error:
        raise InstanceError(f"the configuration of {name} is not JSON: {error}") from error
    if parsed == []:  # an empty Lua table
        parsed = {}
    if not isinstance(parsed, dict):
        raise InstanceError(f"the configuration of {name} is no JSON object")
    return parsed


def _copy(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Copy a configuration: what a plugin puts into its own is nothing to tell Kong."""
    try:
        return copy.deepcopy(config)
    except RecursionError as error:
        raise InstanceError(f"the configuration of {name} is nested too deeply") from error


def _digest(name: str, config: dict[str, Any]) -> bytes:
    content = json.dumps([name, config], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).digest()


def _split(plugin: Plugin, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part the user's keys from Kong's internal ones."""
    declared = {name for entry in plugin.schema for name in entry}
    kongs = {key for key in config if key not in declared and (key.startswith("__") or key in _INTERNAL)}
    mine = {key: value for key, value in config.items() if key not in kongs}
    return mine, {key: config[key] for key in kongs}
