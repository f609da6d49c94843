"""Names for type hints: ``import kong_pdk.pdk.kong as kong`` and ``def access(self, kong: kong.kong)``.

There are types here and no values: calls go through the ``kong`` that a handler is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Namespace", "kong"]


class Namespace:
    """A part of the PDK, or one of its functions: ``kong.request`` or ``kong.request.get_header``."""

    __slots__ = ("_call", "_path")

    def __init__(self, call: Callable[[str, Sequence[object]], Any], path: str) -> None:
        """:param call: makes the call of the function with this dotted name."""
        self._call = call
        self._path = path

    def __getattr__(self, name: str) -> Namespace:
        """Give a function, or a part, of this part."""
        if name.startswith("_"):
            raise AttributeError(name)
        return Namespace(self._call, f"{self._path}.{name}")

    def __call__(self, *args: object) -> Any:
        """Make the PDK call that Kong's documentation describes under this name.

        :param args: the function's arguments by position; None stands for Lua's nil.
        :return: ``(value, err)``; the value alone in a plugin without Lua style.
        :raises PhaseError: Kong refuses the function in the phase of the handler.
        :raises TypeError: an argument that cannot be sent.
        :raises PDKError: Kong gave an error, and the plugin is without Lua style.
        """
        return self._call(self._path, args)

    def __repr__(self) -> str:
        """Name the part."""
        return f"<{self._path}>"


class kong(Namespace):
    """Kong's plugin development kit, as a handler gets it."""

    __slots__ = ()
