"""The prefix: the directory of a node's configuration, logs and process id."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from kong_pdk.gateway.gateway_settings import DEFAULTS

from embedded_kong.console import CommandError
from embedded_kong.kong_conf import prefix_of, write_kong_env

_DIRECTORIES = ("logs", "pids", "sockets")
# Kong makes these files in advance; the entrypoint of the image turns the first three into links.
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
    """Make the prefix with its folders, logs and ``.kong_env``. Raises :class:`CommandError`."""
    prefix = prefix_of(values)
    try:
        prefix.mkdir(parents=True, exist_ok=True)
        for name in _DIRECTORIES:
            (prefix / name).mkdir(exist_ok=True)
        for name in _LOGS:
            _make_log(prefix / "logs" / name)
        # As Kong does, with its defaults; an empty value is none.
        write_kong_env(prefix, DEFAULTS | {name: value for name, value in values.items() if value})
    except OSError as error:
        raise CommandError(
            f"could not prepare Kong prefix at {prefix}: {error.strerror} ({error.filename}); "
            f"give user {os.getuid()} a directory that it can write"
        ) from None
    return prefix


def delete_sockets(prefix: Path) -> list[Path]:
    """Delete every unix socket in the prefix and in ``sockets``; give their paths."""
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
    """Give the process id of the node in this prefix, or None if it does not run."""
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
    """Send a signal to the node in this prefix and give its process id. Raises :class:`CommandError`."""
    pid = running(prefix)
    if pid is None:
        raise CommandError(f"nginx not running in prefix: {prefix}")
    try:
        os.kill(pid, number)
    except OSError as error:
        raise CommandError(f"could not send signal to process {pid}: {error.strerror}") from None
    return pid


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until the condition holds, at most this long; give whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _has_ended(pid: int) -> bool:
    """Give whether a process is a zombie: process 1 of a container may not collect exit statuses."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] == "Z"
        )
    except (OSError, IndexError):
        return False


def _make_log(path: Path) -> None:
    # A link to /dev/stdout is kept, even if it cannot be opened.
    if not path.is_symlink():
        path.touch()
