"""Runs a plugin server, a master with workers, until it stops, and ends each process in time."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import resource
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from kong_pdk import stop_times
from kong_pdk.mode import Mode
from kong_pdk.server.listener import QUEUE_SIZE, ListenError
from kong_pdk.server.workers.worker import Load

if TYPE_CHECKING:
    from kong_pdk.server.server import Server

_log = logging.getLogger(__name__)


def serve_by_workers(  # noqa: PLR0913
    load: Load,
    chosen: Mode,
    paths: list[Path],
    metrics: Path | None = None,
    queue_size: int = QUEUE_SIZE,
    *,
    has_code: bool = False,
) -> int:
    """Serve by a master and workers. This process becomes the master; it returns in each worker as well.

    :param load: loads the plugins, in each worker.
    :param chosen: the engine and the number of workers.
    :param paths: the sockets to listen on.
    :param metrics: the directory of the counter files; None to count nothing.
    :param queue_size: how many connections may wait to be accepted.
    :param has_code: whether this process has imported the plugins already.
    :return: the exit status.
    """
    # Not at the top: a dump needs none of it, and a plugin's own packages may replace what it imports.
    from kong_pdk.interface_file import interface
    from kong_pdk.server.workers.master import Master
    from kong_pdk.server.workers.worker import work

    kong_interface = interface()
    _raise_limit_of_files()
    try:
        result = Master(paths, chosen, queue_size, kong_interface).run()
    except ListenError as error:
        _log.error("%s", error)
        return 1
    if isinstance(result, int):  # the master ended; a worker gets its sockets
        if has_code:  # the plugins' threads and atexit functions concern the workers alone
            _exit_now(result)
        return result
    try:
        server = work(result, chosen, load, metrics, kong_interface)
    finally:
        _flush()
    return 1 if server is None else _end(server)


def _raise_limit_of_files() -> None:
    """Let the process open as many files as it may: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # a limit that this system does not accept
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _flush() -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a plugin may have closed it
        sys.stdout.flush()


def _end(server: Server) -> int:
    """Close the instances and return the exit status, or end the process after ``stop_times.ATEXIT``.

    At its end the interpreter waits for threads and processes of a plugin, some of which never end. While a handler
    still runs, the process ends at once, after the functions that plugins registered by ``atexit``.
    """
    watch = threading.Timer(stop_times.ATEXIT, _exit_now)
    watch.daemon = True
    with contextlib.suppress(RuntimeError):  # no more threads
        watch.start()
    if not server.close_instances(stop_times.CLOSE):
        text = "close() of an instance has not returned after %g seconds, or a handler still runs"
        _log.warning(text, stop_times.CLOSE)
    _flush()
    if not server.is_idle:
        atexit._run_exitfuncs()
        _exit_now()
    return 0


def _exit_now(status: int = 0) -> None:
    logging.shutdown()
    os._exit(status)
