"""``kong.ctx``: values that live as long as a request or a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kong_pdk.pdk.kong.namespace import Namespace, Part, Result, function


class Shared(Namespace):
    """Values that all plugins see, Lua ones too, from one phase to the next; gone with the request."""

    @function("kong.ctx.shared.get")
    def get(self, key: str) -> Result[Any]:
        """Give a value that a plugin has set.

        :param key: its name.
        :return: the value; None where there is none.

        Phases: rewrite, access, response, preread, log.
        Interface: stock.
        """

    @function("kong.ctx.shared.set")
    def set(self, key: str, value: object) -> Result[None]:
        """Set a value for the phases and plugins that follow.

        :param key: its name; all plugins share the names, so begin it with your plugin's.
        :param value: text, number, boolean, list or dict; None takes it away.

        Phases: certificate, rewrite, access, response, preread, log.
        Interface: stock.
        """

    if not TYPE_CHECKING:  # for type checkers there are no such names at all

        def __getattr__(self, name: str) -> Any:
            """Refuse Lua's ``kong.ctx.shared.name``, which would be a part of the PDK here, and true."""
            if name.startswith("_"):
                raise AttributeError(name)
            raise AttributeError(f"{self._path} has no attributes for its values; call {self._path}.get({name!r})")

        def __setattr__(self, name: str, value: object) -> None:
            """Refuse Lua's ``kong.ctx.shared.name = value``, which nobody else would see here."""
            if not name.startswith("_"):
                raise AttributeError(
                    f"{self._path} has no attributes for its values; call {self._path}.set({name!r}, value)"
                )
            object.__setattr__(self, name, value)


class Ctx(Namespace):
    """Values that live as long as a request or a connection. A plugin server has the shared ones."""

    shared = Part(Shared)
