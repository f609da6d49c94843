"""``kong.plugin``: the plugin that asks."""

from __future__ import annotations

from kong_pdk.pdk.kong.namespace import Namespace, Result, function


class Plugin(Namespace):
    """The plugin itself, as Kong has it."""

    @function("kong.plugin.get_id")
    def get_id(self) -> Result[str]:
        """Give the name of the configuration with which the plugin runs.

        :return: a UUID.

        Phases: rewrite, access, response, preread, log.
        Interface: extended.
        """
