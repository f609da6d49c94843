"""The registry of PDK functions, and the checks before each call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from kong_pdk.gateway.entities import PluginConfig
from kong_pdk.gateway.exchange import Exchange, Refused
from kong_pdk.wire.pdk_functions import allowed, phases_of

# Functions that need an HTTP request, which neither a TCP connection nor a TLS handshake has.
_HTTP_ONLY = (
    "kong.client.tls.",
    "kong.request.",
    "kong.response.",
    "kong.service.request.",
    "kong.service.response.",
)
# Functions of Kong's phase `access`, which the stream subsystem does not have.
_ACCESS_ONLY = ("kong.client.authenticate", "kong.service.")
# Functions that Kong allows from `access` on; of the stream subsystem's phases, only in `log`.
_FROM_ACCESS_ON = ("kong.client.get_credential", "kong.client.load_consumer", "kong.log.set_serialize_value")
_ALSO_IN_PREREAD = frozenset(
    {"kong.service.request.disable_tls", "kong.service.set_tls_verify", "kong.service.set_tls_verify_depth"}
)
# Functions that need a route or an authenticated client, which a TLS handshake does not have.
_NOT_IN_CERTIFICATE = ("kong.client.", "kong.log.serialize", "kong.log.set_serialize_value", "kong.router.")


def _refused_by_documentation(method: str, phase: str, subsystem: str) -> bool:
    """Whether Kong's documentation says that a call is refused in ``certificate`` or a phase of the stream subsystem.

    For functions without a measurement in ``phases.tsv``. The tuples above hold prefixes of names.
    """
    if phase == "certificate":
        return method.startswith((*_HTTP_ONLY, *_NOT_IN_CERTIFICATE, *_ACCESS_ONLY))
    if subsystem == "http":
        return False
    if phase == "preread":
        return method not in _ALSO_IN_PREREAD and method.startswith((*_HTTP_ONLY, *_ACCESS_ONLY, *_FROM_ACCESS_ON))
    return method.startswith((*_HTTP_ONLY, *_ACCESS_ONLY))


MSGPACK = "MsgPack:1"

_PdkFunction = TypeVar("_PdkFunction", bound=Callable[..., Any])


class UnknownFunction(Exception):
    """The embedded gateway does not have this PDK function."""

    def __init__(self, method: str) -> None:
        super().__init__(f"the embedded gateway does not have the PDK function {method}")
        self.method = method


@dataclass(frozen=True)
class Event:
    """One phase of one exchange for one configured plugin, over one plugin protocol."""

    exchange: Exchange
    plugin: PluginConfig
    phase: str
    protocol: str = MSGPACK

    def log(self, level: str, message: str) -> None:
        """Write to Kong's error log, with the plugin and the request."""
        self.exchange.node.log.write(level, f"[{self.plugin.name}] {message}, {self.exchange.log_context()}")


@dataclass(frozen=True)
class _Function:
    run: Callable[..., Any]
    # None: any number of arguments
    parameters: int | None
    # False: returns no value, which in Lua is not the same as nil
    returns: bool


# Return annotations (which are texts here) of functions whose None is no value. A function that may return None for nil
# has another one, such as "str | None".
_NO_VALUE = ("None", "NoReturn", "Literal[True] | None")

FUNCTIONS: dict[str, _Function] = {}


def function(name: str) -> Callable[[_PdkFunction], _PdkFunction]:
    """Register a PDK function under its dotted name. It gets the event and the arguments, with None for nil."""

    def register(run: _PdkFunction) -> _PdkFunction:
        kinds = [parameter.kind for parameter in inspect.signature(run).parameters.values()]
        variadic = inspect.Parameter.VAR_POSITIONAL in kinds
        returns = inspect.get_annotations(run).get("return") not in _NO_VALUE
        FUNCTIONS[name] = _Function(run, None if variadic else len(kinds) - 1, returns)
        return run

    return register


def gives_nothing(method: str) -> bool:
    """Whether this function returns no value, not even nil, so that no result message can be made of it."""
    entry = FUNCTIONS.get(method)
    return entry is not None and not entry.returns


def _allowed(method: str, event: Event) -> bool:
    subsystem = event.exchange.subsystem
    recorded = allowed(method, event.phase, subsystem)
    return not _refused_by_documentation(method, event.phase, subsystem) if recorded is None else recorded


async def call(event: Event, method: str, args: list[Any]) -> Any:
    """Make a PDK call and return its first result, with None for nil.

    Raises Refused where Kong's Lua code raises an error, Exit for ``kong.response.exit`` and ``.error``, and
    :class:`UnknownFunction`.
    """
    if not _allowed(method, event):
        phases = ", ".join(phases_of(method, event.exchange.subsystem)) or "none of this gateway's"
        raise Refused(f"{method} cannot be called in {event.phase} phase (only in: {phases})")
    function_entry = FUNCTIONS.get(method)
    if function_entry is None:
        if any(name.startswith(f"{method}.") for name in FUNCTIONS):
            raise Refused(f"{method}: attempt to call a table value")
        raise UnknownFunction(method)
    if function_entry.parameters is not None:
        args = [*args, *[None] * function_entry.parameters][: function_entry.parameters]
    result = function_entry.run(event, *args)
    return await result if inspect.isawaitable(result) else result


# Functions that work only in phases that plugin servers do not have.
_LUA_ONLY_PHASES = {
    "kong.client.tls.disable_http2_alpn": "client_hello",
    "kong.response.set_raw_body": "body_filter",
    "kong.response.get_raw_body": "body_filter",
}
# Functions with an argument that only Lua code can pass, and Kong's error for any other value.
_LUA_ONLY_ARGUMENTS = {
    "kong.service.set_target_retry_callback": "retry_callback must be a function",
    "kong.service.set_tls_cert_key": "chain must be a parsed cdata object",
    "kong.service.set_tls_verify_store": "store must be a table of X.509 certificates that Lua has read",
    "kong.vault.try": "callback must be a function",
}


def _refusing(reason: str) -> Any:
    def refuse(event: Event, *args: object) -> NoReturn:
        raise Refused(reason.format(phase=event.phase))

    return refuse


for _name, _phase in _LUA_ONLY_PHASES.items():
    function(_name)(_refusing(f"{_name} cannot be called in {{phase}} phase (only in: {_phase})"))
for _name, _reason in _LUA_ONLY_ARGUMENTS.items():
    function(_name)(_refusing(f"{_name}: {_reason}"))
