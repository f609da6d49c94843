"""What the instances of a server are made of, by id, so that any worker can make any of them."""

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
"""Beyond either, the contents that no worker has an instance of are forgotten, those used longest ago first.

Kong has an instance that it still needs made again.
"""

IDLE_SECONDS = 24 * 3600.0
"""How long a content is kept that no worker has an instance of."""

CLOSED_SECONDS = 5.0
"""How long a content is kept after the last of Kong's workers that started it has closed it.

An event that was on its way still finds it: Kong would make all instances of the plugin anew otherwise.
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
    """Where the instances of one process get their ids and can be looked up.

    The process holds an id once for each :meth:`keep` and each :meth:`find` that gave a content, and gives it back by
    :meth:`release`. An id that any process holds is not given to another content.
    """

    def keep(self, digest: bytes, content: Content) -> int:
        """Note that Kong starts an instance, and give its id: always the same one for the same digest."""
        ...

    def find(self, id: int) -> Content | None:
        """Look up what an instance is made of."""
        ...

    def release(self, id: int) -> None:
        """Hold an id once less."""
        ...

    def close(self, id: int) -> None:
        """Note that Kong closes an instance. It ends once each start of it was closed."""
        ...

    def expire(self) -> list[int]:
        """Forget what is due, and give the ids of the instances that this process is to let go."""
        ...

    def next_due(self) -> float | None:
        """When :meth:`expire` has something to do next, by ``time.monotonic``."""
        ...

    def workers(self) -> list[WorkerState]:
        """List the workers of the server that serve."""
        ...


@dataclass
class _Entry:
    digest: bytes
    content: Content | None
    """None once the instance has ended, for as long as a worker has not let it go."""
    used_at: float
    starts: int = 0
    holds: Counter[Hashable] = field(default_factory=Counter)


class InstanceTable:
    """The table itself: that of a server with one process, or of the master. Safe to use from many threads.

    Kong's workers cannot be told apart, so each start of the same content counts, and each close uncounts. A start
    that Kong repeats is never closed: such an instance goes as idle ones do.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._entries: dict[int, _Entry] = {}
        self._ids: dict[bytes, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict()
        """The contents that nobody holds, used longest ago first."""
        self._closing: OrderedDict[int, float] = OrderedDict()
        """When those that were closed end, the next one first."""
        self._bytes = 0
        self._lock = threading.Lock()

    def keep(self, digest: bytes, content: Content, holder: Hashable | None = None) -> int:
        """See :class:`InstanceStore`.

        :param holder: who holds the id; nobody where None.
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
        """Note that a worker has ended."""
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
        """Forget a content at once, and give those who hold its id: it stays taken until they have let go."""
        with self._lock:
            return self._drop(id)

    def expire(self) -> dict[int, set[Hashable]]:
        """Forget what is due, and give the ids of the instances that are to be let go, and those who hold them."""
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
        """Take the id from the digest, the next one if another content has it."""
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
    """The table as one process sees it that is a server by itself."""

    def __init__(self, table: InstanceTable) -> None:
        """Hold nothing yet."""
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
