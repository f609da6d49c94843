"""What the instances of a server are made of, by id, so that any worker can make any of them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple, Protocol

MOST_CONTENTS = 10_000
"""Beyond, those used longest ago are forgotten; Kong has an instance that it still needs made again."""

IDLE_SECONDS = 24 * 3600.0
"""How long a content is kept that nobody asks for."""

_IDS = 2**31 - 1  # the id's field is a signed 32-bit integer


class Content(NamedTuple):
    """The name of a plugin and a configuration, a JSON text."""

    name: str
    config: bytes


class Contents(Protocol):
    """Where instances get their ids and can be looked up."""

    def keep(self, digest: bytes, content: Content) -> int:
        """Note a content, and give the id of its instance: always the same one for the same digest."""
        ...

    def find(self, id: int) -> Content | None:
        """Look up what an instance is made of."""
        ...

    def drop(self, id: int) -> None:
        """Forget a content."""
        ...


@dataclass
class _Entry:
    digest: bytes
    content: Content
    used_at: float


class ContentTable:
    """The table itself: that of a server with one process, or of the master. Safe to use from many threads."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: OrderedDict[int, _Entry] = OrderedDict()  # used longest ago first
        self._lock = threading.Lock()

    def keep(self, digest: bytes, content: Content) -> int:
        """See :class:`Contents`."""
        with self._lock:
            self._forget()
            id = self._id_of(digest)
            self._entries[id] = _Entry(digest, content, time.monotonic())
            self._entries.move_to_end(id)
            return id

    def find(self, id: int) -> Content | None:
        """See :class:`Contents`."""
        with self._lock:
            entry = self._entries.get(id)
            if entry is None:
                return None
            entry.used_at = time.monotonic()
            self._entries.move_to_end(id)
            return entry.content

    def drop(self, id: int) -> None:
        """See :class:`Contents`."""
        with self._lock:
            self._entries.pop(id, None)

    def _id_of(self, digest: bytes) -> int:
        """Take the id from the digest, the next one if another content has it."""
        id = int.from_bytes(digest[:4], "big") % _IDS + 1
        while id in self._entries and self._entries[id].digest != digest:
            id = id % _IDS + 1
        return id

    def _forget(self) -> None:
        limit = time.monotonic() - IDLE_SECONDS
        while self._entries:
            oldest = next(iter(self._entries.values()))
            if len(self._entries) < MOST_CONTENTS and oldest.used_at >= limit:
                return
            self._entries.popitem(last=False)
