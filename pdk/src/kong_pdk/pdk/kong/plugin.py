"""``kong.plugin``: the plugin that makes the call."""

from __future__ import annotations

from kong_pdk.pdk.kong.namespace import Namespace, Result, function


class Plugin(Namespace):
    """The plugin that makes the call."""

    @function("kong.plugin.get_id")
    def get_id(self) -> Result[str]:
        """Give the id of the configuration with which the plugin runs.

        :return: a UUID.

        Phases: rewrite, access, response, preread, log.
        Interface: extended.
        """
