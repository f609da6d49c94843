"""The exceptions under the name of kong-pdk's module: ``from kong_pdk.exception import PDKException``."""

from kong_pdk.errors import PDKError, PDKException, PhaseError, UnknownFunctionError

__all__ = ["PDKError", "PDKException", "PhaseError", "UnknownFunctionError"]
