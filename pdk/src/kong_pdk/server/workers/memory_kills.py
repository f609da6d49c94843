"""Whether the kernel has killed a process of this container because it was out of memory."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

# Of the container's own control group, in both versions; the root of a machine's groups has no such file in version 2.
_FILES = ("sys/fs/cgroup/memory.events", "sys/fs/cgroup/memory/memory.oom_control")
_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class MemoryKills:
    """Tells whether the kernel has killed processes lately."""

    def __init__(self, root: Path = Path("/")) -> None:
        """:param root: the root of the file system."""
        self._root = root
        self._before = self._latest = self._count()

    def look(self) -> None:
        """Forget kills from before the last look. To be called every few seconds."""
        self._before, self._latest = self._latest, self._count()

    def are_new(self) -> bool:
        """Whether a process was killed since the look before the last one, or the last call of this."""
        before, self._before = self._before, self._count()
        self._latest = self._before
        return self._before > before

    def _count(self) -> int:
        """Give the number of processes that were killed; 0 where the kernel does not count them."""
        for name in _FILES:
            with contextlib.suppress(OSError):
                if found := _COUNT.search((self._root / name).read_text("ascii")):
                    return int(found[1])
        return 0
