"""Python plugins for Kong Gateway."""

from kong_pdk.errors import PDKError, PhaseError

__all__ = ["PDKError", "PhaseError", "__version__"]

__version__ = "0.1.0"
