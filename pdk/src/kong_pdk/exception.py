"""The exceptions in the module where kong-pdk has them: ``from kong_pdk.exception import PDKException``."""

from kong_pdk.errors import PDKError, PDKException, PhaseError, UnknownFunctionError

__all__ = ["PDKError", "PDKException", "PhaseError", "UnknownFunctionError"]
