"""What the kernel tells of a process: when it started, and its memory."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_START_FIELD = 19  # of /proc/PID/stat, counted behind the name, which may hold spaces and brackets
_RESIDENT_FIELD = 1
_PSS = re.compile(rb"^Pss:\s*(\d+) kB$", re.MULTILINE)


class Memory(NamedTuple):
    """A process's memory in bytes. What it shares with others is counted in full in one, by its share in the other."""

    resident: int
    proportional: int | None


def started(pid: int) -> float:
    """Give the moment at which a process started, in the kernel's ticks; 0 where there is no such process.

    With its number this tells a process from a later one of the same number.
    """
    try:
        fields = (_PROC / str(pid) / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
        return float(fields[_START_FIELD])
    except (OSError, ValueError, IndexError):
        return 0.0


def memory(pid: int) -> Memory | None:
    """Read a process's memory; None where it is gone.

    The share is not known where the kernel keeps it to itself.
    """
    folder = _PROC / str(pid)
    try:
        resident = int((folder / "statm").read_text().split()[_RESIDENT_FIELD]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
    try:
        found = _PSS.search((folder / "smaps_rollup").read_bytes())
    except OSError:
        found = None
    return Memory(resident, int(found[1]) * 1024 if found else None)
