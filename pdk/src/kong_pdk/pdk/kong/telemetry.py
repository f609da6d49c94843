"""``kong.telemetry``: log entries for OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kong_pdk.pdk.kong.namespace import Namespace, Result, function


class Telemetry(Namespace):
    """Kong's telemetry, which Kong's plugin ``opentelemetry`` sends if it is configured to send logs."""

    @function("kong.telemetry.log")
    def log(
        self,
        plugin_name: str,
        plugin_config: Mapping[str, Any],
        message_type: str,
        message: str,
        attributes: Mapping[str, Any] | None = None,
    ) -> Result[None]:
        """Record a log entry.

        :param plugin_name: the name of the plugin.
        :param plugin_config: the configuration of the plugin.
        :param message_type: a name for this kind of entry.
        :param message: the text of the entry.
        :param attributes: names to values of the entry.

        Phases: rewrite, access, response, log.
        Interface: extended.
        """
