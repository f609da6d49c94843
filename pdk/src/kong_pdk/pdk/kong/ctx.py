"""``kong.ctx``: values that live as long as a request or a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kong_pdk.pdk.kong.namespace import Namespace, Part, Result, function


class Shared(Namespace):
    """Values of a request that all plugins share, Lua plugins too, through all phases."""

    @function("kong.ctx.shared.get")
    def get(self, key: str) -> Result[Any]:
        """Give a value that a plugin has set.

        :param key: the name of the value.
        :return: the value; None where it is not set.

        Phases: rewrite, access, response, preread, log.
        Interface: stock.
        """

    @function("kong.ctx.shared.set")
    def set(self, key: str, value: object) -> Result[None]:
        """Set a value for the phases and plugins that follow.

        :param key: the name of the value. All plugins share the names, so begin it with the plugin's name.
        :param value: text, number, boolean, list or dict; None removes the value.

        Phases: certificate, rewrite, access, response, preread, log.
        Interface: stock.
        """

    if not TYPE_CHECKING:  # type checkers report these names by themselves

        def __getattr__(self, name: str) -> Any:
            """Refuse Lua's ``kong.ctx.shared.name``, which would give a part of the PDK instead of a value."""
            if name.startswith("_"):
                raise AttributeError(name)
            raise AttributeError(f"{self._path} has no attributes for its values; call {self._path}.get({name!r})")

        def __setattr__(self, name: str, value: object) -> None:
            """Refuse Lua's ``kong.ctx.shared.name = value``, which would not reach Kong."""
            if not name.startswith("_"):
                raise AttributeError(
                    f"{self._path} has no attributes for its values; call {self._path}.set({name!r}, value)"
                )
            object.__setattr__(self, name, value)


class Ctx(Namespace):
    """Values that live as long as a request or a connection. A plugin server has only the shared ones."""

    shared = Part(Shared)
