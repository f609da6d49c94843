"""Kong's client for ProtoBuf:1: one event at a time on a connection, PDK calls in between, closed on failure."""

from __future__ import annotations

from typing import Any

from kong_pdk.gateway.entities import PluginConfig
from kong_pdk.gateway.exchange import Exit, Refused
from kong_pdk.gateway.pdk import Event, UnknownFunction, call
from kong_pdk.gateway.pdk.dispatch import gives_nothing
from kong_pdk.gateway.pdk.lua_values import from_protobuf, to_protobuf
from kong_pdk.gateway.servers.failures import Closed, PluginFailed, Retries, Unreachable
from kong_pdk.gateway.servers.pool import Connection, Pool
from kong_pdk.gateway.servers.started_instances import Instances, configuration
from kong_pdk.wire import protobuf_codec
from kong_pdk.wire.calls import Answer, Call, CloseInstance, HandleEvent, InstanceStatus, StartInstance
from kong_pdk.wire.interface import STOCK, Interface, saved_for_log
from kong_pdk.wire.kong_side import Answered, PdkCall, ProtobufSide
from kong_pdk.wire.pdk_functions import Method
from kong_pdk.wire.pdk_values.protobuf_arguments import decode_arguments
from kong_pdk.wire.wire_errors import UnknownMethod, WireError

# Kong has these functions for plugin servers alone, under their dotted names alone.
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


class ProtoBufClient:
    """One plugin of one ``pluginserver_names`` entry; ``interface`` is what the gateway's interface file names."""

    def __init__(self, name: str, pool: Pool, interface: Interface = STOCK) -> None:
        self._name = name
        self._interface = interface
        self._pool = pool
        self._sequence = 1
        self.instances = Instances(self._start_instance, self._close_instance)

    async def handle(self, event: Event) -> None:
        """Run one event. Raises PluginFailed (an unreachable server among them), Refused and Exit."""
        retries = Retries(event)
        while True:
            instance = await self.instances.id_of(event.plugin)
            try:
                await self._run(event, instance)
            except Closed as error:
                # The server's way to say that it does not know the instance: Kong starts all of the plugin's again.
                self.instances.forget_all()
                retries.again(f"the plugin server closed the connection ({error})")
            except (Unreachable, WireError) as error:
                raise PluginFailed(str(error)) from error
            else:
                return

    async def _run(self, event: Event, instance: int) -> None:
        side = ProtobufSide()
        connection = await self._send(side, HandleEvent(instance, event.phase))
        try:
            while isinstance(said := await _next(side, connection), PdkCall):
                reply = await answer(event, self._interface, said.method, said.arguments)
                await connection.send(side.reply(reply))
        except (Exit, Refused):
            # Kong closes it when the request ends, and the server takes that as the end of the event.
            if event.phase == "log":
                connection.close()
            else:
                event.exchange.at_end.append(connection.close)
            raise
        except BaseException:
            connection.close()
            raise
        self._pool.give(connection)

    async def _send(self, side: ProtobufSide, request: Call) -> Connection:
        """Send a call over a connection of the pool."""
        self._sequence += 1
        message = side.call(self._sequence, request)
        connection = await self._pool.take()
        try:
            await connection.send(message)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _start_instance(self, plugin: PluginConfig) -> int:
        try:
            status = await self._request(StartInstance(self._name, configuration(plugin)))
        except (Unreachable, Closed, WireError) as error:
            raise PluginFailed(f"failed to start the instance: {error}") from error
        if not isinstance(status, InstanceStatus):
            raise PluginFailed("the plugin server's answer to StartInstance has no instance_status")
        return status.instance_id

    async def _close_instance(self, instance: int) -> None:
        try:
            await self._request(CloseInstance(instance))
        except (Unreachable, Closed, WireError):
            return  # Kong does not try again

    async def _request(self, request: StartInstance | CloseInstance) -> Answer:
        side = ProtobufSide()
        connection = await self._send(side, request)
        try:
            said = await _next(side, connection)
        except BaseException:
            connection.close()
            raise
        assert isinstance(said, Answered)  # a call other than an event asks for no PDK call
        self._pool.give(connection)
        return said.answer


async def _next(side: ProtobufSide, connection: Connection) -> PdkCall | Answered:
    while (said := side.next()) is None:
        side.feed(await connection.receive())
    return said


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
    """Refuse a name with slashes where Kong has the function under its dotted name alone."""
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
