"""A PDK call of ProtoBuf:1: the frames of a plugin server become a function's arguments, its value becomes a frame."""

from __future__ import annotations

from typing import Any

from kong_pdk.gateway.exchange import Refused
from kong_pdk.gateway.pdk import Event, UnknownFunction, call
from kong_pdk.gateway.pdk.calls import gives_nothing
from kong_pdk.gateway.pdk.lua_values import from_protobuf, to_protobuf
from kong_pdk.gateway.servers.failures import PluginFailed
from kong_pdk.wire import protobuf_codec
from kong_pdk.wire.interface import Interface, saved_for_log
from kong_pdk.wire.pdk_functions import Method
from kong_pdk.wire.pdk_values.protobuf_arguments import decode_arguments
from kong_pdk.wire.wire_errors import UnknownMethod

# Kong has these for plugin servers alone, and knows them by these very names; "kong.ctx" and others are no functions.
_OF_PLUGIN_SERVERS = frozenset(
    {
        "kong.ctx.shared.get",
        "kong.ctx.shared.set",
        "kong.log.serialize",
        "kong.nginx.get_ctx",
        "kong.nginx.get_tls1_version_str",
        "kong.nginx.get_var",
        "kong.nginx.req_start_time",
        "kong.nginx.set_ctx",
    }
)


async def answer(event: Event, interface: Interface, name: str, payload: bytes) -> bytes:
    """Make a PDK call and give its result message.

    Raises Refused and Exit as the function does, PluginFailed for a name that Kong does not know, and WireError
    for arguments that are no message of its kind.
    """
    try:
        method = interface.method(name)
        _check_name(event, method)
        value = await call(event, method.function, _arguments(method, payload))
    except (UnknownMethod, UnknownFunction) as error:
        raise PluginFailed(str(error)) from error
    if value is None and method.output == "Value" and gives_nothing(method.function):
        raise Refused(f"{name} gives no value, not even nil, and its result message must have one")
    try:
        return to_protobuf(method, value)
    except (TypeError, ValueError) as error:
        raise Refused(f"{name}: its value has no place in the message: {error}") from error


def _check_name(event: Event, method: Method) -> None:
    """Refuse a second name where Kong's Lua would not find what the first name has."""
    if "/" not in method.name:
        return
    if method.function in _OF_PLUGIN_SERVERS:
        raise UnknownFunction(method.name)
    if event.phase == "log" and saved_for_log(method.function):
        raise Refused(f"{method.name} cannot be called in log phase: what was saved is under its dotted name alone")


def _arguments(method: Method, payload: bytes) -> list[Any]:
    """The arguments as Lua gets them. Raises WireError."""
    arguments = decode_arguments(method, payload)
    kind = method.input
    if kind == "KV" and not protobuf_codec.parse(kind, payload).HasField("v"):
        arguments = arguments[:1]  # a value that is not there is nil; only one that is null becomes a text
    return from_protobuf(kind, arguments)
