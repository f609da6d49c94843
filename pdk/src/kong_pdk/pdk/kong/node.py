"""``kong.node``: the Kong that runs the request."""

from __future__ import annotations

from typing import Literal

from kong_pdk.pdk.kong.namespace import Namespace, Result, function
from kong_pdk.pdk.kong.values import MemoryStats


class Node(Namespace):
    """The node that runs the request."""

    @function("kong.node.get_id")
    def get_id(self) -> Result[str]:
        """Give the id of the node.

        :return: a UUID, a new one for each start unless ``node_id`` is set.

        Phases: rewrite, access, response, preread, log.
        Interface: stock.
        """

    @function("kong.node.get_hostname")
    def get_hostname(self) -> Result[str]:
        """Give the name of the machine or container.

        :return: a host name.

        Phases: rewrite, access, response, log.
        Interface: extended.
        """

    @function("kong.node.get_memory_stats")
    def get_memory_stats(
        self, unit: Literal["b", "k", "m", "g", "B", "K", "M", "G"] | None = None, scale: int | None = None
    ) -> Result[MemoryStats]:
        """Give the memory that Kong's workers and their shared dictionaries use.

        :param unit: ``b``, ``k``, ``m`` or ``g``; the default is bytes. With another unit than ``b`` the sizes are
            texts: ``40.00 KiB``. Over ProtoBuf:1 with the stock interface there are only bytes.
        :param scale: digits after the point, with a unit; the default is 2.
        :return: sizes by dictionary and worker.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """
