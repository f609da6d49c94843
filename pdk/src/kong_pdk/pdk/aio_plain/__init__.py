"""The PDK's types for ``async def`` handlers without Lua style: ``await`` gives a value or raises ``PDKError``.

``import kong_pdk.pdk.aio_plain as kong`` and ``async def access(self, kong: kong.kong)``, with ``lua_style = False``.
At run time this module has the classes of :mod:`kong_pdk.pdk.aio`; type checkers read ``__init__.pyi``, as there.
"""

from kong_pdk.pdk.aio import *  # noqa: F403
from kong_pdk.pdk.aio import Plugin as Plugin  # not in __all__: a star import must keep the author's Plugin
from kong_pdk.pdk.aio import __all__ as __all__
from kong_pdk.pdk.aio import kong
from kong_pdk.pdk.kong.unconnected import refuses_calls

__getattr__ = refuses_calls(__name__, dir(kong))
