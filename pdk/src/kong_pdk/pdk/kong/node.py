"""``kong.node``: this one Kong."""

from __future__ import annotations

from typing import Literal

from kong_pdk.pdk.kong.namespace import Namespace, Result, function
from kong_pdk.pdk.kong.values import MemoryStats


class Node(Namespace):
    """The node on which the request is."""

    @function("kong.node.get_id")
    def get_id(self) -> Result[str]:
        """Give the node's name.

        :return: a UUID, another one for each start unless ``node_id`` is set.

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
        """Give how much memory Kong's workers and their shared dictionaries use.

        :param unit: ``b``, ``k``, ``m`` or ``g``; bytes where it is not given. With another one than ``b`` the figures
            are texts with the unit: ``40.00 KiB``. Over ProtoBuf:1 with the stock interface there are only bytes.
        :param scale: digits behind the point, where a unit is given; 2 where it is not given.
        :return: figures by dictionary and worker.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """
