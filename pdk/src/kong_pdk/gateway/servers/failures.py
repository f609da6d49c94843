"""What can go wrong between the gateway and a plugin server, and how often an event is tried again."""

from __future__ import annotations

import time

from kong_pdk.gateway.pdk import Event

MAX_ATTEMPTS = 1000
"""The most attempts of one event. Kong itself has no limit."""

RETRY_SECONDS = 30.0
"""No event is tried again after this time."""


class PluginServerError(Exception):
    """The gateway cannot start with these plugin servers; in Kong's words."""


class PluginFailed(Exception):
    """A plugin could not be run: Kong answers the client 500."""


class Unreachable(Exception):
    """No connection to the plugin server, or no answer in time."""


class Closed(Exception):
    """The plugin server closed the connection before it had answered."""


class RpcError(Exception):
    """The plugin server answered a MsgPack:1 request with an error."""


class Retries:
    """Counts the attempts of one event."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self._attempts = 1
        self._deadline = time.monotonic() + RETRY_SECONDS

    def again(self, reason: str) -> None:
        """Count one more attempt. Raises :class:`PluginFailed` at the limit."""
        if self._attempts == 1:
            self._event.log("warn", f"{reason}; the event is tried again")
        self._attempts += 1
        if self._attempts > MAX_ATTEMPTS or time.monotonic() > self._deadline:
            raise PluginFailed(
                f"{reason}: given up after {self._attempts - 1} attempts (Kong itself would go on without limit)"
            )
