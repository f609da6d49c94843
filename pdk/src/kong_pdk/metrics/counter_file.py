"""Counter files: memory-mapped numbers that outlive the process that counts, and that another process reads.

A number is eight aligned bytes, which are written at once, so that a reader needs no lock.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

from kong_pdk.metrics.counter_layout import FINGERPRINT, LAYOUT, SIZE

SERVER = "server"
"""Stands in a file's name for the number of a worker: the counters of the master."""

_SUFFIX = ".counters"
_BYTES = SIZE * array("d").itemsize


def path_of(directory: Path, plugin: str, process: str) -> Path:
    """Give the path of the counter file of a process.

    :param plugin: the name of the plugin.
    :param process: the number of the worker, or :data:`SERVER`.
    """
    return directory / f"{plugin}.{process}{_SUFFIX}"


def open_counters(path: Path) -> memoryview[float]:
    """Map a counter file for writing: the file of an earlier process, or a new one.

    :raises OSError: the file can be neither read nor made.
    """
    with contextlib.suppress(FileNotFoundError):
        counters = _map(path, mmap.ACCESS_WRITE)
        if counters is not None:
            return counters
    _make(path)
    counters = _map(path, mmap.ACCESS_WRITE)
    if counters is None:
        raise OSError(f"{path} is not a counter file")
    return counters


def read_counters(directory: Path) -> Iterator[tuple[str, str, Sequence[float]]]:
    """Read the counter files of a directory: plugin, process and numbers of each.

    Incomplete files and other files are ignored.
    """
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        with contextlib.suppress(OSError):
            counters = _map(path, mmap.ACCESS_READ)
            plugin, _, process = path.name.removesuffix(_SUFFIX).rpartition(".")
            if counters is not None and plugin:
                yield plugin, process, counters.tolist()


def _make(path: Path) -> None:
    """Write a whole file and move it to its path: a sparse file would crash the process when the disk is full."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    numbers = array("d", bytes(_BYTES))
    numbers[FINGERPRINT] = LAYOUT
    try:
        temporary.write_bytes(numbers)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _map(path: Path, access: int) -> memoryview[float] | None:
    with path.open("rb" if access == mmap.ACCESS_READ else "r+b") as file:
        if os.fstat(file.fileno()).st_size != _BYTES:
            return None
        counters = memoryview(mmap.mmap(file.fileno(), _BYTES, access=access)).cast("d")
    return counters if counters[FINGERPRINT] == LAYOUT else None
