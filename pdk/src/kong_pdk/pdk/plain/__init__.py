"""The PDK's types for a plugin without Lua style, whose calls give values and raise ``PDKError``.

``import kong_pdk.pdk.plain as kong`` and ``def access(self, kong: kong.kong)``, in a plugin with ``lua_style = False``.
At run time this module has the classes of :mod:`kong_pdk.pdk.kong`; type checkers read ``__init__.pyi``, which
``scripts/pdk_types.py`` writes from the same classes.
"""

from kong_pdk.pdk.kong import *  # noqa: F403
from kong_pdk.pdk.kong import __all__ as __all__
from kong_pdk.pdk.kong import kong
from kong_pdk.pdk.kong.plugin import Plugin as Plugin  # not in __all__: a star import must keep the author's Plugin
from kong_pdk.pdk.kong.unconnected import refuses_calls

__getattr__ = refuses_calls(__name__, dir(kong))
