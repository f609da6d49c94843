"""Python plugins for Kong Gateway."""

from kong_pdk.errors import PDKError, PhaseError, UnknownFunctionError

__all__ = ["PDKError", "PhaseError", "UnknownFunctionError", "__version__"]

__version__ = "0.1.0"
