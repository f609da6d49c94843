"""Runs a plugin server to its end, as one process or by a master and workers, and ends the process within seconds."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from kong_pdk import logs
from kong_pdk.mode import Mode
from kong_pdk.plugin import Plugin
from kong_pdk.server.listener import QUEUE_SIZE, ListenError, Listeners
from kong_pdk.server.worker import Load

if TYPE_CHECKING:
    from kong_pdk.server.server import Server

_log = logging.getLogger(__name__)


_END_SECONDS = 3.0  # for what plugins do at the end
_CLOSE_SECONDS = 1.5  # of these, at most, for what instances do


def serve_alone(plugin: Plugin, paths: list[Path], queue_size: int = QUEUE_SIZE) -> int:
    """Serve a plugin that this process has loaded, without workers.

    :return: the exit status.
    """
    from kong_pdk.interface_file import interface
    from kong_pdk.server.fork_hooks import detach_children
    from kong_pdk.server.master import watch_parent
    from kong_pdk.server.server import Server

    logs.restore()
    try:
        with Listeners(paths, queue_size) as listeners:
            server = Server([plugin], listeners.sockets, interface=interface())
            detach_children(server.sockets, server.stop_at_signals())
            watch_parent(server.stop)
            listeners.publish()
            server.run()
            _log.log(logs.NOTICE, "stopped")
    except ListenError as error:
        _log.error("%s", error)
        return 1
    finally:
        _flush()
    return _end(server)


def serve_by_workers(
    load: Load, chosen: Mode, paths: list[Path], metrics: Path | None = None, queue_size: int = QUEUE_SIZE
) -> int:
    """Serve by a master and workers, this process becoming one of them.

    :param load: loads the plugins, in each worker.
    :param metrics: the directory of the files to count in.
    :param queue_size: how many connections may wait to be accepted.
    :return: the exit status.
    """
    # Not at the top: a dump needs none of it, and what it imports may come with the packages of a plugin.
    from kong_pdk.interface_file import interface
    from kong_pdk.server.master import Master
    from kong_pdk.server.worker import work

    kong_interface = interface()
    try:
        result = Master(paths, chosen, queue_size).run()
    except ListenError as error:
        _log.error("%s", error)
        return 1
    if isinstance(result, int):  # the master ended; a worker gets its sockets
        return result
    try:
        server = work(result, chosen, load, metrics, kong_interface)
    finally:
        _flush()
    return 1 if server is None else _end(server)


def _flush() -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a plugin may have closed it
        sys.stdout.flush()


def _end(server: Server) -> int:
    """Close the instances and end as programs do, but not later than some seconds from now.

    The interpreter waits for threads and processes that a plugin left behind, some of which never end. Where a
    handler is still running it does not even try; what plugins have registered for the end is called all the same.
    """
    watch = threading.Timer(_END_SECONDS, _exit_now)
    watch.daemon = True
    with contextlib.suppress(RuntimeError):  # no more threads
        watch.start()
    if not server.instances.end(_CLOSE_SECONDS):
        _log.warning("close() of an instance has not returned after %g seconds, or its handler has not", _CLOSE_SECONDS)
    _flush()
    if not server.is_idle:
        atexit._run_exitfuncs()
        _exit_now()
    return 0


def _exit_now() -> None:
    logging.shutdown()
    os._exit(0)
