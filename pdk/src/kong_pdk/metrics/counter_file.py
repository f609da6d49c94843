"""A file of counters: numbers that outlive the process that counts, shared with the one that reads them.

A number is written in one piece, eight aligned bytes, so that a reader needs no lock.
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
"""In the place of a worker's number: the counters of the server that has the workers."""

_SUFFIX = ".counters"
_BYTES = SIZE * array("d").itemsize


def path_of(directory: Path, plugin: str, process: str) -> Path:
    """Name the file of one process of a plugin's server.

    :param process: the worker's number, or :data:`SERVER`.
    """
    return directory / f"{plugin}.{process}{_SUFFIX}"


def open_counters(path: Path) -> memoryview[float]:
    """Map a file for counting: the one that an earlier process left, or a new one.

    :raises OSError: it can be neither read nor made.
    """
    with contextlib.suppress(FileNotFoundError):
        counters = _map(path, mmap.ACCESS_WRITE)
        if counters is not None:
            return counters
    _make(path)
    counters = _map(path, mmap.ACCESS_WRITE)
    if counters is None:
        raise OSError(f"{path} is no file of counters")
    return counters


def read_counters(directory: Path) -> Iterator[tuple[str, str, Sequence[float]]]:
    """Read all files of a directory: plugin, process and numbers of each.

    One that is being made, or is something else, is passed over.
    """
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        with contextlib.suppress(OSError):
            counters = _map(path, mmap.ACCESS_READ)
            plugin, _, process = path.name.removesuffix(_SUFFIX).rpartition(".")
            if counters is not None and plugin:
                yield plugin, process, counters.tolist()


def _make(path: Path) -> None:
    """Write it whole and put it into its place: what is not written now, a full disk would deny when it is mapped."""
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
