"""``kong.telemetry``: what goes to OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kong_pdk.pdk.kong.namespace import Namespace, Result, function


class Telemetry(Namespace):
    """Kong's telemetry. It goes somewhere where Kong's plugin ``opentelemetry`` is configured to send logs."""

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

        :param plugin_name: whose it is.
        :param plugin_config: that plugin's configuration.
        :param message_type: a word by which entries can be told apart.
        :param message: what the entry says.
        :param attributes: names to values that go with it.

        Phases: rewrite, access, response, log.
        Interface: extended.
        """
