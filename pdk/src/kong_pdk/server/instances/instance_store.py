"""The contents of a server's instances (plugin name and configuration) by id, so that each worker can make one."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

MOST_CONTENTS = 10_000
MOST_BYTES = 64 * 1024 * 1024
"""Beyond either limit, contents without an instance in any worker are forgotten, the least recently used first.

Kong starts an instance again where it still needs it.
"""

IDLE_SECONDS = 24 * 3600.0
"""How long a content without an instance in any worker is kept."""

CLOSED_SECONDS = 5.0
"""How long a content is kept after the last of the Kong workers that started it has closed it.

An event that is under way at that moment still finds its instance. Otherwise Kong would start all instances of the
plugin again.
"""

_IDS = 2**31 - 1  # the id's field is a signed 32-bit integer


class Content(NamedTuple):
    """The name of a plugin and a configuration, a JSON text."""

    name: str
    config: bytes


class WorkerState(NamedTuple):
    """A worker of the server, as its master sees it."""

    number: int
    pid: int
    answers: bool


class InstanceStore(Protocol):
    """Gives ids to the instances of one process, and finds contents by id.

    The process holds an id once for each :meth:`keep`, and for each :meth:`find` that gave a content. It gives a hold
    back by :meth:`release`. An id that any process holds is not given to another content.
    """

    def keep(self, digest: bytes, content: Content) -> int:
        """Note that Kong starts an instance, and give its id, which is always the same for the same digest."""
        ...

    def find(self, id: int) -> Content | None:
        """Give the content of an instance; None where the id is unknown."""
        ...

    def release(self, id: int) -> None:
        """Give back one hold of an id."""
        ...

    def close(self, id: int) -> None:
        """Note that Kong closes an instance, which ends once each of its starts was closed."""
        ...

    def expire(self) -> list[int]:
        """Forget the contents that are due, and give the ids of the instances that this process must discard."""
        ...

    def next_due(self) -> float | None:
        """When :meth:`expire` is due next, by ``time.monotonic``."""
        ...

    def workers(self) -> list[WorkerState]:
        """List the workers of the server that serve."""
        ...


@dataclass
class _Entry:
    digest: bytes
    content: Content | None
    """None once the instance has ended, while a worker still holds the id."""
    used_at: float
    starts: int = 0
    holds: Counter[Hashable] = field(default_factory=Counter)


class InstanceTable:
    """The table of a server's contents, in its master or its single process. Safe to use from many threads.

    The table counts the starts and closes of a content, since it cannot tell Kong's workers apart. A start that Kong
    repeats is never closed; such an instance is forgotten when it is idle.
    """

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._ids: dict[bytes, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict()
        """The ids that no process holds, the least recently used first."""
        self._closing: OrderedDict[int, float] = OrderedDict()
        """When closed instances end, the next one first."""
        self._bytes = 0
        self._lock = threading.Lock()

    def keep(self, digest: bytes, content: Content, holder: Hashable | None = None) -> int:
        """See :class:`InstanceStore`.

        :param holder: the process that holds the id; None for no process.
        """
        with self._lock:
            self._forget_idle()
            id = self._ids.get(digest)
            if id is None:
                self._make_room(len(content.config))
                id = self._ids[digest] = self._free_id(digest)
                self._entries[id] = _Entry(digest, None, 0.0)
            entry = self._entries[id]
            if entry.content is None:
                entry.content = content
                self._bytes += len(content.config)
            entry.starts += 1
            self._closing.pop(id, None)
            self._use(id, entry, holder)
            return id

    def find(self, id: int, holder: Hashable | None = None) -> Content | None:
        """See :class:`InstanceStore`."""
        with self._lock:
            entry = self._entries.get(id)
            if entry is None or entry.content is None:
                return None
            self._use(id, entry, holder)
            return entry.content

    def release(self, id: int, holder: Hashable) -> None:
        """See :class:`InstanceStore`."""
        with self._lock:
            entry = self._entries.get(id)
            if entry is not None:
                entry.holds -= Counter([holder])
                self._note_free(id, entry)

    def release_all(self, holder: Hashable) -> None:
        """Give back all holds of a worker that has ended."""
        with self._lock:
            for id, entry in list(self._entries.items()):
                if entry.holds.pop(holder, 0):
                    self._note_free(id, entry)

    def close(self, id: int) -> None:
        """See :class:`InstanceStore`."""
        with self._lock:
            entry = self._entries.get(id)
            if entry is None or entry.content is None:
                return
            entry.starts = max(entry.starts - 1, 0)
            if not entry.starts:
                self._closing.setdefault(id, time.monotonic() + CLOSED_SECONDS)

    def drop(self, id: int) -> set[Hashable]:
        """Forget a content at once, and give the holders of its id, which stays in use until all have released it."""
        with self._lock:
            return self._drop(id)

    def expire(self) -> dict[int, set[Hashable]]:
        """Forget the contents that are due, and give the ids of instances to discard, each with its holders."""
        with self._lock:
            self._forget_idle()
            ended: dict[int, set[Hashable]] = {}
            while self._closing and next(iter(self._closing.values())) <= time.monotonic():
                id = next(iter(self._closing))
                ended[id] = self._drop(id)
            return ended

    def next_due(self) -> float | None:
        """See :class:`InstanceStore`."""
        with self._lock:
            moments = [next(iter(self._closing.values()))] if self._closing else []
            if self._free:
                moments.append(self._entries[next(iter(self._free))].used_at + IDLE_SECONDS)
            return min(moments, default=None)

    def _use(self, id: int, entry: _Entry, holder: Hashable | None) -> None:
        entry.used_at = time.monotonic()
        self._free.pop(id, None)
        if holder is None:
            self._note_free(id, entry)
        else:
            entry.holds[holder] += 1

    def _note_free(self, id: int, entry: _Entry) -> None:
        if entry.holds:
            return
        if entry.content is None:
            self._remove(id)
        elif id not in self._free:
            entry.used_at = time.monotonic()
            self._free[id] = None

    def _drop(self, id: int) -> set[Hashable]:
        self._closing.pop(id, None)
        entry = self._entries.get(id)
        if entry is None or entry.content is None:
            return set()
        self._bytes -= len(entry.content.config)
        entry.content = None
        entry.starts = 0
        if not entry.holds:
            self._remove(id)
        return set(entry.holds)

    def _remove(self, id: int) -> None:
        self._free.pop(id, None)
        del self._ids[self._entries.pop(id).digest]

    def _free_id(self, digest: bytes) -> int:
        """Derive an id from the digest; where another content has it, take the next one."""
        id = int.from_bytes(digest[:4], "big") % _IDS + 1
        while id in self._entries:
            id = id % _IDS + 1
        return id

    def _forget_idle(self) -> None:
        limit = time.monotonic() - IDLE_SECONDS
        while self._free and self._entries[next(iter(self._free))].used_at < limit:
            self._drop(next(iter(self._free)))

    def _make_room(self, size: int) -> None:
        while self._free and (len(self._entries) >= MOST_CONTENTS or self._bytes + size > MOST_BYTES):
            self._drop(next(iter(self._free)))


class LocalStore:
    """The store of a server with a single process: a table, with this store as the holder."""

    def __init__(self, table: InstanceTable) -> None:
        self._table = table

    def keep(self, digest: bytes, content: Content) -> int:
        """See :class:`InstanceStore`."""
        return self._table.keep(digest, content, self)

    def find(self, id: int) -> Content | None:
        """See :class:`InstanceStore`."""
        return self._table.find(id, self)

    def release(self, id: int) -> None:
        """See :class:`InstanceStore`."""
        self._table.release(id, self)

    def close(self, id: int) -> None:
        """See :class:`InstanceStore`."""
        self._table.close(id)

    def expire(self) -> list[int]:
        """See :class:`InstanceStore`."""
        return [id for id, holders in self._table.expire().items() if self in holders]

    def next_due(self) -> float | None:
        """See :class:`InstanceStore`."""
        return self._table.next_due()

    def workers(self) -> list[WorkerState]:
        """See :class:`InstanceStore`."""
        return [WorkerState(1, os.getpid(), answers=True)]
