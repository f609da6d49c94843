"""Instances of plugins: a plugin with a configuration. The id of an instance is derived from both."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from kong_pdk.failure_policy import FailurePolicy, policy_of
from kong_pdk.logs import Once
from kong_pdk.masking import remember
from kong_pdk.plugin import Plugin
from kong_pdk.schema.secret_fields import secret_values
from kong_pdk.server.error_log import ErrorLog
from kong_pdk.server.instances.closing import ClosingQueue, HandlerLife
from kong_pdk.server.instances.instance_store import Content, InstanceStore, InstanceTable, LocalStore, WorkerState
from kong_pdk.server.instances.internal_keys import split
from kong_pdk.wire.text import decode

IDLE_SECONDS = 3600.0
"""An instance without events for this long is discarded; the next event makes it again."""

CLOSED_IDLE_SECONDS = 60.0
"""The same for an instance that one worker of Kong has closed, while other workers still use it."""

MOST_INSTANCES = 10_000
MOST_BYTES = 64 * 1024 * 1024
"""Beyond either limit (the bytes are those of the configurations), the least recently used instances are discarded."""

MAKING_SECONDS = 60.0
"""How long a start waits for the same instance that another thread is making; Kong itself waits as long."""


class InstanceError(Exception):
    """An instance that cannot be made; the message says why."""


@dataclass(eq=False)
class Instance:
    """A plugin with a configuration."""

    id: int
    plugin: Plugin
    config: dict[str, Any]
    internal: dict[str, Any]
    handler: Any
    digest: bytes
    life: HandlerLife
    size: int
    policy: FailurePolicy
    started_at: float = field(default_factory=time.time)
    used_at: float = field(init=False)
    is_closed_by_some: bool = False
    """Whether a worker of Kong has closed the instance; another worker may still use it."""
    errors: ErrorLog = field(default_factory=ErrorLog)
    """Logs the errors of its handlers."""

    def __post_init__(self) -> None:
        self.used_at = time.monotonic()

    def begin_again(self) -> Instance:
        """Make an instance for a single event, because this one has ended since the event came.

        :return: the instance, whose life has begun, and ends with this event.
        :raises Exception: from the plugin's ``__init__``.
        """
        handler = _make_handler(self.plugin, self.config)
        life = self.life.successor(handler)
        life.begin()
        life.end()
        return replace(self, handler=handler, life=life)


class _Parsed(NamedTuple):
    content: Content
    plugin: Plugin
    config: dict[str, Any]
    digest: bytes


class Instances:
    """The instances of a process, safe to use from many threads."""

    def __init__(
        self,
        plugins: Iterable[Plugin],
        store: InstanceStore | None = None,
        on_due: Callable[[], object] = lambda: None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """:param plugins: the plugins of this server.

        :param store: shared by the processes of the server; None for a server with a single process.
        :param on_due: is called when :meth:`look_after` is due earlier than it last returned.
        :param environ: tells what becomes of a failure where a plugin does not.
        """
        self.plugins = {plugin.name: plugin for plugin in plugins}
        self.policies = {name: policy_of(plugin, environ or {}) for name, plugin in self.plugins.items()}
        self._store = LocalStore(InstanceTable()) if store is None else store
        self._on_due = on_due
        self.errors = ErrorLog()
        """Logs the errors of handlers."""
        self.logged = Once()
        """Errors about instances that cannot be made, as they are in the log."""
        self._instances: dict[int, Instance] = {}
        self._bytes = 0
        self._making: dict[bytes, Future[Instance]] = {}
        self.closing = ClosingQueue()
        """Calls ``close()`` of the objects of instances that have ended."""
        self._sweep_at = 0.0
        self._lock = threading.Lock()

    def start(self, name: str, config: bytes) -> Instance:
        """Make an instance, or give the existing one with the same content.

        :param name: the plugin's name.
        :param config: a JSON object, Kong's internal keys included.
        :raises InstanceError: there is no such plugin, or ``config`` is not a JSON object.
        :raises Exception: from the plugin's ``__init__``.
        """
        parsed = self._parse(Content(name, config))
        id = self._store.keep(parsed.digest, parsed.content)
        try:
            instance = self._make_or_share(id, parsed)
        except BaseException:
            self._store.close(id)  # Kong does not get the id, and so never closes it
            raise
        instance.is_closed_by_some = False
        self._discard_idle()
        return instance

    def ready(self, id: int) -> Instance | None:
        """Find the instance of an event, if it is made in this process. Never blocks."""
        instance = self._instances.get(id)
        if instance is not None:
            instance.used_at = time.monotonic()
        return instance

    def get(self, id: int) -> Instance | None:
        """Find the instance of an event; make it where only another process of the server has it.

        :return: None where the id is unknown.
        :raises Exception: as :meth:`start`.
        """
        instance = self.ready(id)
        if instance is not None:
            return instance
        content = self._store.find(id)
        if content is None:
            return None
        try:
            parsed = self._parse(content)
        except BaseException:
            self._release(id)
            raise
        instance = self._make_or_share(id, parsed)
        self._discard_idle()
        return instance

    def _parse(self, content: Content) -> _Parsed:
        plugin = self.plugins.get(content.name)
        if plugin is None:
            known = ", ".join(sorted(self.plugins)) or "none"
            raise InstanceError(f"there is no plugin {content.name} here, only {known}")
        config = _parse(*content)
        # Before the plugin sees them: its __init__ may raise an exception with one in its text.
        remember(secret_values({"type": "record", "fields": plugin.schema}, config))
        return _Parsed(content, plugin, config, _digest(content.name, config))

    def _make_or_share(self, id: int, parsed: _Parsed) -> Instance:
        """Give the instance of a content. The caller's hold of the id passes to the instance, or is released."""
        stale: Instance | None = None
        with self._lock:
            instance = self._instances.get(id)
            if instance is not None and instance.digest != parsed.digest:  # another content has this id now
                stale, instance = self._remove(id), None
            making = None if instance is not None else self._making.get(parsed.digest)
            if instance is None and making is None:
                made = self._making[parsed.digest] = Future()
        self._end(stale)
        if instance is not None:
            instance.used_at = time.monotonic()
            self._release(id)
            return instance
        if making is not None:  # another thread makes it, for another worker of Kong: __init__ runs once
            try:
                return _wait(parsed.plugin.name, making, self.policies[parsed.plugin.name].timeout)
            finally:
                self._release(id)
        self._make(id, parsed, made)
        return made.result()

    def _make(self, id: int, parsed: _Parsed, made: Future[Instance]) -> None:
        try:
            config, internal = _split(parsed.plugin, parsed.config)
            handler = _make_handler(parsed.plugin, config)
            life = HandlerLife(parsed.plugin, handler, self.closing)
            size = len(parsed.content.config)
            policy = self.policies[parsed.plugin.name]
            instance = Instance(id, parsed.plugin, config, internal, handler, parsed.digest, life, size, policy)
            instance.errors = self.errors
        except BaseException as error:  # noqa: BLE001  # result() raises it
            with self._lock:
                del self._making[parsed.digest]
            self._release(id)
            made.set_exception(error)
            return
        with self._lock:
            del self._making[parsed.digest]
            self._instances[id] = instance
            self._bytes += size
        self.logged.forget()  # an error that is fixed now is logged again when it comes back
        made.set_result(instance)

    def content_of(self, id: int) -> Content | None:
        """Give the content of an instance, for a message; None where it is unknown."""
        with contextlib.suppress(InstanceError):
            content = self._store.find(id)
            if content is not None:
                self._release(id)
                return content
        return None

    def close(self, id: int) -> Instance | None:
        """Note that Kong closes an instance, which it does once for each start.

        The last close ends the instance, some seconds later. An unknown id is no error: Kong may be late.
        """
        self._store.close(id)
        instance = self._instances.get(id)
        self.note_closed(id)
        return instance

    def note_closed(self, id: int) -> None:
        """Note that a worker of Kong has closed an instance, which is now discarded sooner when it is idle."""
        instance = self._instances.get(id)
        if instance is not None:
            instance.is_closed_by_some = True
        with self._lock:
            self._sweep_at = min(self._sweep_at, time.monotonic() + CLOSED_IDLE_SECONDS)
        self._on_due()

    def discard(self, id: int) -> Instance | None:
        """Discard an instance that has ended for all processes."""
        with self._lock:
            instance = self._remove(id)
        self._end(instance)
        return instance

    def all(self) -> list[Instance]:
        """List the instances of this process."""
        with self._lock:
            return list(self._instances.values())

    def workers(self) -> list[WorkerState]:
        """List the workers of the server that serve."""
        return self._store.workers()

    def look_after(self) -> float:
        """Discard the instances that are due, and give the seconds until the next call is due."""
        for id in self._store.expire():
            self.discard(id)
        if time.monotonic() >= self._sweep_at:
            self._discard_idle()
        due = self._store.next_due()
        return max(min(self._sweep_at, math.inf if due is None else due) - time.monotonic(), 0.0)

    def end(self, seconds: float) -> bool:
        """Discard all instances at the end of the server, and wait until they are closed.

        :param seconds: how long to wait at most.
        :return: whether all are closed.
        """
        with self._lock:
            ended, self._instances = self._instances, {}
        for instance in ended.values():
            instance.life.end()
        return not self.closing.wait(seconds)

    def _discard_idle(self) -> None:
        with self._lock:
            now = time.monotonic()
            discarded = [instance for instance in self._instances.values() if _due(instance) <= now]
            for instance in discarded:
                self._remove(instance.id)
            if self._is_too_much():
                by_use = sorted(self._instances.values(), key=lambda instance: instance.used_at)
                while self._is_too_much():
                    discarded.append(by_use.pop(0))
                    self._remove(discarded[-1].id)
            next_due = min(map(_due, self._instances.values()), default=now + IDLE_SECONDS)
            # Not sooner: each sweep wakes up a process that otherwise sleeps.
            self._sweep_at = max(next_due, now + CLOSED_IDLE_SECONDS)
        for instance in discarded:
            self._end(instance)

    def _is_too_much(self) -> bool:
        return len(self._instances) > 1 and (len(self._instances) > MOST_INSTANCES or self._bytes > MOST_BYTES)

    def _remove(self, id: int) -> Instance | None:
        removed = self._instances.pop(id, None)
        if removed is not None:
            self._bytes -= removed.size
        return removed

    def _end(self, instance: Instance | None) -> None:
        if instance is not None:
            self._release(instance.id)
            instance.life.end()

    def _release(self, id: int) -> None:
        with contextlib.suppress(InstanceError):  # the master is gone, and this process ends soon
            self._store.release(id)


def _due(instance: Instance) -> float:
    return instance.used_at + (CLOSED_IDLE_SECONDS if instance.is_closed_by_some else IDLE_SECONDS)


def _make_handler(plugin: Plugin, config: dict[str, Any]) -> Any:
    """Make the author's object with a copy of the configuration, so that the plugin's changes do not reach Kong."""
    try:
        copied = copy.deepcopy(config)
    except RecursionError as error:
        raise InstanceError(f"the configuration of {plugin.name} is nested too deeply") from error
    return plugin.cls(copied)


def _wait(name: str, making: Future[Instance], timeout: float) -> Instance:
    seconds = min(MAKING_SECONDS, timeout)
    try:
        return making.result(seconds)
    except FutureTimeout:
        if making.done():  # the plugin's __init__ raised a TimeoutError
            raise
        raise InstanceError(f"{name}: __init__ has not returned after {seconds:g} s") from None


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


def _split(plugin: Plugin, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        return split(plugin, config)
    except RecursionError as error:
        raise InstanceError(f"the configuration of {plugin.name} is nested too deeply") from error


def content_key(content: Content) -> str:
    """Give a text that is equal for equal contents, whatever the order of the keys in the JSON."""
    try:
        return _digest(content.name, _parse(*content)).hex()
    except InstanceError:
        return hashlib.sha256(content.config).hexdigest()


def _digest(name: str, config: dict[str, Any]) -> bytes:
    content = json.dumps([name, config], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).digest()
