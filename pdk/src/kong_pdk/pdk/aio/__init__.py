"""The PDK's types for ``async def`` handlers, in which each call is awaited.

``import kong_pdk.pdk.aio as kong`` and ``async def access(self, kong: kong.kong)``, in which ``await
kong.request.get_header("host")`` gives ``(value, error)``. :mod:`kong_pdk.pdk.aio_plain` has the types for a plugin
with ``lua_style = False``. Type checkers read ``__init__.pyi``, which ``scripts/pdk_types.py`` writes from the classes
of :mod:`kong_pdk.pdk.kong`.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from kong_pdk.pdk.kong import *  # noqa: F403
from kong_pdk.pdk.kong import __all__ as __all__
from kong_pdk.pdk.kong import kong as _kong
from kong_pdk.pdk.kong.namespace import Call
from kong_pdk.pdk.kong.plugin import Plugin as Plugin  # not in __all__: a star import must keep the author's Plugin
from kong_pdk.pdk.kong.unconnected import do_nothing, refuses_calls


class kong(_kong):
    """Kong's plugin development kit, the argument of an ``async def`` handler."""

    def __init__(self, call: Call | None = None, path: str = "kong") -> None:
        """:param call: gives the coroutine of a call; without it the calls give None, for a unit test.

        :param path: the dotted name.
        """
        super().__init__(call or _do_nothing, path)


def _do_nothing(method: str, args: Sequence[object]) -> Coroutine[Any, Any, None]:
    do_nothing(method, args)
    return _nothing()


async def _nothing() -> None:
    pass


__getattr__ = refuses_calls(__name__, dir(kong))
