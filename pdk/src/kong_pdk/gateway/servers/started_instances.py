"""The instances that this gateway has started in plugin servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kong_pdk.gateway.entities import WORKSPACE_ID, PluginConfig


@dataclass(frozen=True)
class _Instance:
    id: int
    sequence: int


def key(plugin: PluginConfig) -> str:
    """Kong's cache key of a configured plugin."""
    scope = (plugin.route_id, plugin.service_id, plugin.consumer_id)
    return ":".join(["plugins", plugin.name, *(part or "" for part in scope), "", WORKSPACE_ID])


def configuration(plugin: PluginConfig) -> bytes:
    """The JSON text that StartInstance carries: the user's configuration and Kong's own keys.

    Fields of the user's that are named as Kong's keys are overwritten, or are not there where Kong has no value.
    """
    internal = {
        "__plugin_id": plugin.id,
        "__seq__": plugin.sequence,
        "__key__": key(plugin),
        "__ws_id": WORKSPACE_ID,
        "route_id": plugin.route_id,
        "service_id": plugin.service_id,
        "consumer_id": plugin.consumer_id,
        "plugin_instance_name": plugin.instance_name,
    }
    config = _without_nulls({**plugin.config, **internal})
    return json.dumps(config, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogateescape")


def _without_nulls(record: dict[str, object]) -> dict[str, object]:
    """Drop fields that are null: a Lua table does not have them."""
    return {
        name: _without_nulls(value) if isinstance(value, dict) else value
        for name, value in record.items()
        if value is not None
    }


class Instances:
    """Starts the instance of a configuration when it is first needed, and closes the one that it replaces."""

    def __init__(
        self, start: Callable[[PluginConfig], Awaitable[int]], close: Callable[[int], Awaitable[None]]
    ) -> None:
        self._start = start
        self._close = close
        self._running: dict[str, _Instance] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def id_of(self, plugin: PluginConfig) -> int:
        """The id of the plugin's instance. What ``start`` raises is raised here."""
        name = key(plugin)
        running = self._running.get(name)
        if running is not None and running.sequence == plugin.sequence:
            return running.id
        async with self._locks.setdefault(name, asyncio.Lock()):
            return await self._replace(name, plugin)

    async def _replace(self, name: str, plugin: PluginConfig) -> int:
        old = self._running.get(name)
        if old is not None and old.sequence == plugin.sequence:
            return old.id
        started = await self._start(plugin)
        self._running[name] = _Instance(started, plugin.sequence)
        if old is not None:
            await self._close(old.id)
        return started

    def forget(self, plugin: PluginConfig) -> None:
        """Let the next event start the instance again: the server does not know it."""
        self._running.pop(key(plugin), None)

    def forget_all(self) -> None:
        """Let the next events start all instances again: the server is another process or lost its state."""
        self._running.clear()
