"""Kong's client for MsgPack:1: each request on any pooled connection, errors logged and the plugin skipped."""

from __future__ import annotations

from kong_pdk.gateway.entities import PluginConfig
from kong_pdk.gateway.pdk import Event, UnknownFunction, call
from kong_pdk.gateway.pdk.lua_values import from_msgpack, to_msgpack
from kong_pdk.gateway.servers.failures import Closed, PluginFailed, Retries, RpcError, Unreachable
from kong_pdk.gateway.servers.pool import Connection, Pool
from kong_pdk.gateway.servers.started_instances import Instances, configuration
from kong_pdk.wire import msgpack_codec
from kong_pdk.wire.kong_side import MsgpackSide, PdkCall, pdk_call
from kong_pdk.wire.wire_errors import WireError

# Kong packs these as binary, and fails on the nil of a body that nginx spooled to a file.
_BODIES = frozenset({"kong.request.get_raw_body", "kong.response.get_raw_body", "kong.service.response.get_raw_body"})


class MsgPackClient:
    """One plugin of one ``pluginserver_names`` entry."""

    def __init__(self, name: str, pool: Pool) -> None:
        self._name = name
        self._pool = pool
        self._sequence = 0
        self._server_pid: object = None
        self.instances = Instances(self._start_instance, self._close_instance)

    async def handle(self, event: Event) -> None:
        """Run one event. Raises PluginFailed, Refused and Exit; an unreachable server is only logged."""
        retries = Retries(event)
        while True:
            instance = await self.instances.id_of(event.plugin)
            try:
                await self._run(event, instance)
            except RpcError as error:
                if "no plugin instance" not in str(error).lower():
                    event.log("error", str(error))
                    return
                self.instances.forget(event.plugin)
                retries.again(str(error))
            except (Unreachable, Closed) as error:
                event.log("error", f"{error}; the request passes without this plugin")
                return
            else:
                return

    async def _run(self, event: Event, instance: int) -> None:
        output = await self._request("plugin.HandleEvent", {"InstanceId": instance, "EventName": event.phase})
        while (wanted := _pdk_call(output)) is not None:
            output = await self._step(event, wanted)

    async def _step(self, event: Event, wanted: PdkCall) -> object:
        method = wanted.method
        try:
            value = await call(event, method, from_msgpack(wanted.arguments))
        except UnknownFunction as error:
            event.log("error", str(error))
            value = None
        if method in _BODIES and value is None:
            (await self._pool.take()).close()  # Kong has taken a connection by then, which is lost
            raise PluginFailed(f"{method}: the body is in a file, which MsgPack:1 cannot carry")
        side = MsgpackSide()
        sent = None if value is None else to_msgpack(method, value)
        return await self._exchange(side, side.step(self._next_id(), wanted, sent), method)

    async def _request(self, method: str, argument: object) -> object:
        side = MsgpackSide()
        return await self._exchange(side, side.request(self._next_id(), method, argument), method)

    def _next_id(self) -> int:
        self._sequence += 1
        return self._sequence

    async def _exchange(self, side: MsgpackSide, request: bytes, method: str) -> object:
        connection = await self._pool.take()
        try:
            await connection.send(request)
            response = await self._response(connection, side)
        except BaseException:
            connection.close()
            raise
        self._pool.give(connection)
        if response.error is None:
            return response.result
        if isinstance(response.error, str):
            raise RpcError(response.error)
        raise PluginFailed(f"{method}: the plugin server's error is no string: {response.error!r}")

    async def _response(self, connection: Connection, side: MsgpackSide) -> msgpack_codec.Response:
        try:
            while not isinstance(message := side.next(), msgpack_codec.Response):
                if message is None:
                    side.feed(await connection.receive())
                else:
                    self._notified(message)
        except WireError as error:
            raise PluginFailed(str(error)) from error
        return message

    def _notified(self, message: msgpack_codec.Notification) -> None:
        if message.label != "serverPid":
            return
        if self._server_pid is not None and message.args != self._server_pid:
            self.instances.forget_all()
        self._server_pid = message.args

    async def _start_instance(self, plugin: PluginConfig) -> int:
        config = configuration(plugin).decode("utf-8", "surrogateescape")
        try:
            status = await self._request("plugin.StartInstance", {"Name": self._name, "Config": config})
        except (RpcError, Unreachable, Closed) as error:
            raise PluginFailed(f"failed to start the instance: {error}") from error
        instance = status.get("Id") if isinstance(status, dict) else None
        if not isinstance(instance, int):
            raise PluginFailed("the plugin server's answer to StartInstance has no Id")
        return instance

    async def _close_instance(self, instance: int) -> None:
        try:
            await self._request("plugin.CloseInstance", instance)
        except (RpcError, Unreachable, Closed, PluginFailed):
            return  # Kong does not try again


def _pdk_call(output: object) -> PdkCall | None:
    try:
        return pdk_call(output)
    except WireError as error:
        raise PluginFailed(str(error)) from error
