"""What the stand-in says it is, so that nobody takes it for Kong."""

from __future__ import annotations

from kong_pdk import __version__

KONG_VERSION = "3.9.3"


def version_line() -> str:
    """For ``kong version``. The first number is Kong's: scripts read it."""
    return f"{KONG_VERSION} (kong-python embedded gateway {__version__}: development and test stand-in, not Kong)"
