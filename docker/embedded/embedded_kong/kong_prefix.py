"""The prefix: the directory in which a node keeps its configuration, its logs and its process id."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from embedded_kong.kong_conf import prefix_of, write_kong_env
from embedded_kong.console import CommandError

_DIRECTORIES = ("logs", "pids", "sockets")
# Kong makes these at once; the entrypoint of the image turns the first three into links.
_LOGS = (
    "access.log",
    "admin_access.log",
    "error.log",
    "status_error.log",
    "admin_gui_access.log",
    "admin_gui_error.log",
)
_POLL_SECONDS = 0.05


def prepare(values: Mapping[str, str]) -> Path:
    """Make the prefix and write ``.kong_env`` into it. Raises :class:`CommandError`."""
    prefix = prefix_of(values)
    try:
        prefix.mkdir(parents=True, exist_ok=True)
        for name in _DIRECTORIES:
            (prefix / name).mkdir(exist_ok=True)
        for name in _LOGS:
            _make_log(prefix / "logs" / name)
        write_kong_env(prefix, values)
    except OSError as error:
        raise CommandError(
            f"could not prepare Kong prefix at {prefix}: {error.strerror} ({error.filename}); "
            f"give user {os.getuid()} a directory that it can write"
        ) from None
    return prefix


def delete_sockets(prefix: Path) -> list[Path]:
    """Delete every unix socket in the prefix and in ``sockets``, whoever made it, and say which they were."""
    found = [
        path
        for folder in (prefix, prefix / "sockets")
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.is_socket()
    ]
    for path in found:
        path.unlink(missing_ok=True)
    return found


def pid_file(prefix: Path) -> Path:
    return prefix / "pids" / "nginx.pid"


def running(prefix: Path) -> int | None:
    """The process id of the node in this prefix, or None if there is none that is alive."""
    try:
        pid = int(pid_file(prefix).read_text(encoding="ascii"))
        if pid <= 0:  # to the system these are groups of processes
            return None
        os.kill(pid, 0)
    except PermissionError:
        return pid
    except (OSError, ValueError, OverflowError):
        return None
    return None if _has_ended(pid) else pid


def send(prefix: Path, number: signal.Signals) -> int:
    """Send a signal to the node in this prefix; its process id. Raises :class:`CommandError`."""
    pid = running(prefix)
    if pid is None:
        raise CommandError(f"nginx not running in prefix: {prefix}")
    try:
        os.kill(pid, number)
    except OSError as error:
        raise CommandError(f"could not send signal to process {pid}: {error.strerror}") from None
    return pid


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until the condition holds, at most this long; whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _has_ended(pid: int) -> bool:
    """Whether a process has ended and nobody has asked for its exit status: process 1 of a container may not."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] == "Z"
        )
    except (OSError, IndexError):
        return False


def _make_log(path: Path) -> None:
    # A link to /dev/stdout stays as it is, also where that cannot be opened.
    if not path.is_symlink():
        path.touch()
