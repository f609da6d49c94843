"""Makes directories of packages those that this process imports from, before the PDK's own."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import site
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

# Held until the process ends: who wants to remove a directory that nobody uses tries to lock it.
_held: dict[Path, int] = {}

_active: set[str] = set()


def activate(directories: Sequence[Path]) -> None:
    """Let imports look into directories, the first one first, before they look where the PDK's packages are.

    The standard library stays before all of them. ``.pth`` files in them count. What is imported already stays.
    """
    for directory in reversed(directories):
        hold(directory)
        if str(directory) in sys.path:
            continue
        before = list(sys.path)
        site.addsitedir(str(directory), set(before))
        _active.add(str(directory))
        added = [entry for entry in sys.path if entry not in before]
        others = [entry for entry in sys.path if entry in before]
        place = _before_packages(others)
        sys.path[:] = [*others[:place], *added, *others[place:]]
    importlib.invalidate_caches()


def hold(directory: Path) -> None:
    """Keep a directory from being taken for unused as long as this process lives, and for some time after."""
    if directory not in _held:
        with contextlib.suppress(OSError):
            _held[directory] = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(_held[directory], fcntl.LOCK_SH | fcntl.LOCK_NB)
    # Another user's directory cannot be marked; it cannot be removed by this one either.
    with contextlib.suppress(OSError):
        os.utime(directory)


def _before_packages(entries: Sequence[str]) -> int:
    """Find the place of the first entry where packages are installed; at the end where there is none."""
    homes = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()}
    homes.update(site.getsitepackages())
    for place, entry in enumerate(entries):
        if entry in homes or entry in _active:
            return place
    return len(entries)
