"""How a handler is left before its end."""

from __future__ import annotations


class EventEnded(BaseException):
    """Kong waits for nothing more of this event: it got its answer by ``exit``, refused a call, or is gone.

    No ``Exception``, so that a plugin's ``except Exception`` does not swallow it; only ``finally`` blocks run.
    """
