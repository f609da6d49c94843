"""How a PDK call finds its function, and what is checked before it runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from kong_pdk.gateway.entities import PluginConfig
from kong_pdk.gateway.exchange import Exchange, Refused
from kong_pdk.gateway.pdk.unmeasured import refused
from kong_pdk.wire.pdk_functions import allowed, phases_of

MSGPACK = "MsgPack:1"

_Any = TypeVar("_Any", bound=Callable[..., Any])


class UnknownFunction(Exception):
    """The embedded gateway has no such PDK function."""

    def __init__(self, method: str) -> None:
        super().__init__(f"PDK function {method} is not there: the embedded gateway does not have it")
        self.method = method


@dataclass(frozen=True)
class Event:
    """One phase of one request, run by one configured plugin over one protocol."""

    exchange: Exchange
    plugin: PluginConfig
    phase: str
    protocol: str = MSGPACK

    def log(self, level: str, message: str) -> None:
        """Write to Kong's error log, with the plugin and the request, as nginx does."""
        self.exchange.node.log.write(level, f"[{self.plugin.name}] {message}, {self.exchange.described()}")


@dataclass(frozen=True)
class _Function:
    run: Callable[..., Any]
    # None: takes any number of arguments
    parameters: int | None
    # False: gives no value at all, which Lua tells from nil
    returns: bool


# Annotations are texts here; a function that may give None for nil says so in its own ("str | None"). One of these
# texts is that of a function whose None is no value at all.
_NO_VALUE = ("None", "NoReturn", "Literal[True] | None")

FUNCTIONS: dict[str, _Function] = {}


def function(name: str) -> Callable[[_Any], _Any]:
    """Register a PDK function under its dotted name. It gets the event and the arguments, None for nil."""

    def register(run: _Any) -> _Any:
        kinds = [parameter.kind for parameter in inspect.signature(run).parameters.values()]
        variadic = inspect.Parameter.VAR_POSITIONAL in kinds
        returns = inspect.get_annotations(run).get("return") not in _NO_VALUE
        FUNCTIONS[name] = _Function(run, None if variadic else len(kinds) - 1, returns)
        return run

    return register


def gives_nothing(method: str) -> bool:
    """Whether this function returns no value, not even nil: a result that must have one cannot be made of it."""
    found = FUNCTIONS.get(method)
    return found is not None and not found.returns


def _allowed(method: str, event: Event) -> bool:
    subsystem = event.exchange.subsystem
    measured = allowed(method, event.phase, subsystem)
    return not refused(method, event.phase, subsystem) if measured is None else measured


async def call(event: Event, method: str, args: list[Any]) -> Any:
    """Make a PDK call and give its first result (None for nil).

    Raises Refused where Kong's Lua raises, Exit from ``kong.response.exit`` and ``.error``, and
    :class:`UnknownFunction`.
    """
    if not _allowed(method, event):
        phases = ", ".join(phases_of(method, event.exchange.subsystem)) or "none of this gateway's"
        raise Refused(f"{method} cannot be called in {event.phase} phase (only in: {phases})")
    found = FUNCTIONS.get(method)
    if found is None:
        if any(name.startswith(f"{method}.") for name in FUNCTIONS):
            raise Refused(f"{method}: attempt to call a table value")
        raise UnknownFunction(method)
    if found.parameters is not None:
        args = [*args, *[None] * found.parameters][: found.parameters]
    result = found.run(event, *args)
    return await result if inspect.isawaitable(result) else result
