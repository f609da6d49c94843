"""``kong.cluster``: the nodes that share a configuration."""

from __future__ import annotations

from kong_pdk.pdk.kong.namespace import Namespace, Result, function


class Cluster(Namespace):
    """The cluster to which this node belongs."""

    @function("kong.cluster.get_id")
    def get_id(self) -> Result[str | None]:
        """Give the id of the cluster.

        :return: a UUID; None without a database, where there is no cluster.

        Phases: rewrite, access, response, log.
        Interface: extended.
        """
