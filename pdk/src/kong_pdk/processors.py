"""Counts the processors that this process may use: those of the machine, and the limit of its container."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

_CONTROLLER = "cpu"


def count(root: Path = Path("/")) -> int:
    """Count the processors; a part of one (``docker run --cpus 1.5``) counts as a whole one.

    :param root: the root of the file system.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = (math.ceil(limit) for folder in _control_groups(root) if (limit := _limit(folder)) is not None)
    return max(min((allowed, *limits)), 1)


def _control_groups(root: Path) -> Iterator[Path]:
    """Give the folders of the control groups of this process, each of which may have a limit.

    In a container the paths of ``/proc/self/cgroup`` may be those of the host, which are not there: then the folder
    that is mounted is the container's own group.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            mounts = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        elif _CONTROLLER in controllers.split(","):
            mounts = [root / "sys/fs/cgroup" / controllers, root / "sys/fs/cgroup" / _CONTROLLER]
        else:
            continue
        for mount in mounts:
            folder = mount / path.lstrip("/")
            yield from (each for each in (folder, *folder.parents) if each == mount or mount in each.parents)


def _limit(folder: Path) -> float | None:
    """Give the limit of a control group in processors; None where it has none."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        if (unified := folder / "cpu.max").exists():
            quota, period = unified.read_text("utf-8").split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text("utf-8") for name in ("quota", "period"))
        limit = float(quota) / float(period)  # "max" is no number
        return limit if limit > 0 else None
    return None
