"""A plugin server that is one process: what a plugin's own file is by itself."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from kong_pdk.logs import NOTICE
from kong_pdk.plugin import Plugin
from kong_pdk.server.forks import part_from_children
from kong_pdk.server.listener import QUEUE_SIZE, Listeners
from kong_pdk.server.parent import watch_parent
from kong_pdk.server.server import Server
from kong_pdk.wire.interface import Interface

_log = logging.getLogger(__name__)


def serve(
    plugins: Iterable[Plugin], paths: Iterable[Path], interface: Interface, queue_size: int = QUEUE_SIZE
) -> Server:
    """Serve plugins until a signal says stop, or the process that started this one ends.

    :param interface: what Kong can be asked for over ProtoBuf:1.
    :param queue_size: how many connections may wait to be accepted.
    :return: the server, which has stopped.
    :raises ListenError: a socket cannot be made.
    """
    with Listeners(paths, queue_size) as listeners:
        server = Server(plugins, listeners.sockets, interface=interface)
        part_from_children(server.sockets, server.stop_at_signals())
        watch_parent(server.stop)
        listeners.publish()
        server.run()
        _log.log(NOTICE, "stopped")
        return server
