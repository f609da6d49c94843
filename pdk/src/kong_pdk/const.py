"""The version in the module where kong-pdk has it: ``from kong_pdk.const import __version__``."""

from kong_pdk import __version__

__all__ = ["__version__"]
