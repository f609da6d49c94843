"""The version under the name of kong-pdk's module: ``from kong_pdk.const import __version__``."""

from kong_pdk import __version__

__all__ = ["__version__"]
