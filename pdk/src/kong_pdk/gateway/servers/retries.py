"""How often an event is tried again. Kong has no limit; a stand-in that never ends would help nobody."""

from __future__ import annotations

import time

from kong_pdk.gateway.pdk import Event
from kong_pdk.gateway.servers.failures import PluginFailed

ATTEMPTS = 1000
SECONDS = 30.0


class Retries:
    """Counts the attempts of one event."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self._attempts = 1
        self._deadline = time.monotonic() + SECONDS

    def again(self, reason: str) -> None:
        """Note that the event is tried again. Raises :class:`PluginFailed` at the limit."""
        if self._attempts == 1:
            self._event.log("warn", f"{reason}; the event is tried again")
        self._attempts += 1
        if self._attempts > ATTEMPTS or time.monotonic() > self._deadline:
            raise PluginFailed(
                f"{reason}: given up after {self._attempts - 1} attempts (Kong itself would go on without limit)"
            )
