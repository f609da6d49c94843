"""The exit statuses of the commands, and the error that ends a command with a message for the user."""

from __future__ import annotations

CONFIGURATION_STATUS = 78
"""Exit status of a start that a user's mistake prevents (EX_CONFIG of sysexits.h)."""

SOFTWARE_STATUS = 70
"""Exit status after a mistake in kong-python itself (EX_SOFTWARE)."""

UNAVAILABLE_STATUS = 69
"""Exit status of a start in which a plugin server stays silent (EX_UNAVAILABLE)."""


class StartError(Exception):
    """The start fails; the message says why, and what to do."""

    def __init__(self, message: str, status: int = CONFIGURATION_STATUS) -> None:
        """:param status: the exit status of the container."""
        super().__init__(message)
        self.status = status
