"""The start time and the memory of a process, from ``/proc``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_START_FIELD = 19  # of /proc/PID/stat, counted from the field after the name, which may contain spaces and brackets
_RESIDENT_FIELD = 1
_PSS = re.compile(rb"^Pss:\s*(\d+) kB$", re.MULTILINE)


class Memory(NamedTuple):
    """The memory of a process, in bytes."""

    resident: int
    """With all memory that it shares with other processes (RSS)."""
    proportional: int | None
    """With its share of the shared memory (PSS); None where the kernel does not show it."""


def started(pid: int) -> float:
    """Give the start time of a process in the kernel's ticks; 0 where there is no such process.

    Process id and start time together identify a process: the kernel uses process ids again.
    """
    try:
        fields = (_PROC / str(pid) / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
        return float(fields[_START_FIELD])
    except (OSError, ValueError, IndexError):
        return 0.0


def memory(pid: int) -> Memory | None:
    """Give the memory of a process; None where there is no such process."""
    folder = _PROC / str(pid)
    try:
        resident = int((folder / "statm").read_text().split()[_RESIDENT_FIELD]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
    try:
        match = _PSS.search((folder / "smaps_rollup").read_bytes())
    except OSError:
        match = None
    return Memory(resident, int(match[1]) * 1024 if match else None)
