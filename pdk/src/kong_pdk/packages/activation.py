"""Puts directories of packages into ``sys.path``, before the packages of the PDK.

A module of its own: a plugin server of the image needs nothing else of this package, and each server pays for what it
imports.
"""

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

# The locks are held until the process ends: an unused directory is one that can be locked.
_held: dict[Path, int] = {}

_active: set[str] = set()


def activate(directories: Sequence[Path]) -> None:
    """Make imports search directories, the first one first, before the packages of the PDK.

    The standard library stays before all of them. Their ``.pth`` files count. Modules that are imported already stay.
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
    """Mark a directory as used, with a lock as long as this process lives and with its time of change after that."""
    if directory not in _held:
        with contextlib.suppress(OSError):
            _held[directory] = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(_held[directory], fcntl.LOCK_SH | fcntl.LOCK_NB)
    # A directory of another user cannot be marked; this user cannot remove it either.
    with contextlib.suppress(OSError):
        os.utime(directory)


def forget() -> None:
    """Hold nothing any more, in a fork whose files are closed."""
    _held.clear()


def _before_packages(entries: Sequence[str]) -> int:
    """Find the index of the first entry that holds installed packages; the end if there is none."""
    homes = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()}
    homes.update(site.getsitepackages())
    for place, entry in enumerate(entries):
        if entry in homes or entry in _active:
            return place
    return len(entries)
