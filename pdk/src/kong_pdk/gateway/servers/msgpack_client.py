"""Kong's client for MsgPack:1: each request on any pooled connection, errors logged and passed over."""

from __future__ import annotations

from kong_pdk.gateway.entities import PluginConfig
from kong_pdk.gateway.pdk import Event, UnknownFunction, call
from kong_pdk.gateway.pdk.lua import from_msgpack, to_msgpack
from kong_pdk.gateway.servers.failures import Closed, PluginFailed, RpcError, Unreachable
from kong_pdk.gateway.servers.pool import Connection, Pool
from kong_pdk.gateway.servers.retries import Retries
from kong_pdk.gateway.servers.started_instances import Instances, configuration
from kong_pdk.wire import msgpack
from kong_pdk.wire.errors import WireError

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
        arguments = {"InstanceId": instance, "EventName": event.phase}
        answer = await self._request("plugin.HandleEvent", arguments)
        while True:
            data, event_id = _answer_of_event(answer)
            if data is None:
                return
            method, args = data
            answer = await self._step(event, event_id, method, args)

    async def _step(self, event: Event, event_id: object, method: str, args: list[object]) -> object:
        try:
            value = await call(event, method, from_msgpack(args))
        except UnknownFunction as error:
            event.log("error", str(error))
            value = None
        connection = await self._pool.take()
        step: dict[str, object] = {"EventId": event_id}
        if method in _BODIES and value is None:
            self._sequence += 1
            connection.close()
            raise PluginFailed(f"{method}: the body is in a file, which MsgPack:1 cannot carry")
        if value is not None:
            step["Data"] = to_msgpack(method, value)
        return await self._exchange(connection, msgpack.step_method(method), step)

    async def _request(self, method: str, argument: object) -> object:
        return await self._exchange(await self._pool.take(), method, argument)

    async def _exchange(self, connection: Connection, method: str, argument: object) -> object:
        self._sequence += 1
        sequence = self._sequence
        try:
            await connection.send(msgpack.encode_request(sequence, method, [argument]))
            response = await self._response(connection, sequence)
        except BaseException:
            connection.close()
            raise
        self._pool.give(connection)
        if response.error is None:
            return response.result
        if isinstance(response.error, str):
            raise RpcError(response.error)
        raise PluginFailed(f"{method}: the plugin server's error is no string: {response.error!r}")

    async def _response(self, connection: Connection, sequence: int) -> msgpack.Response:
        messages = msgpack.Messages()
        while True:
            data = await connection.receive()
            try:
                received = messages.feed(data)
            except WireError as error:
                raise PluginFailed(str(error)) from error
            for position, message in enumerate(received, 1):
                if isinstance(message, msgpack.Notification):
                    self._notified(message)
                elif isinstance(message, msgpack.Response) and message.id == sequence and position == len(received):
                    return message
                else:
                    raise PluginFailed(f"the plugin server sent {message!r} in place of answer {sequence} alone")

    def _notified(self, message: msgpack.Notification) -> None:
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
            return  # it was to go anyway; Kong does not try again


def _answer_of_event(answer: object) -> tuple[tuple[str, list[object]] | None, object]:
    """The PDK call that the server wants (None: the handler is done) and the event's id."""
    if not isinstance(answer, dict):
        raise PluginFailed(f"the plugin server's answer to an event is no map: {answer!r}")
    data = answer.get("Data")
    if data == "ret":
        return None, answer.get("EventId")
    if isinstance(data, dict) and isinstance(data.get("Method"), str):
        args = data.get("Args")
        return (data["Method"], list(args) if isinstance(args, list) else []), answer.get("EventId")
    raise PluginFailed(f"the plugin server's answer to an event is neither 'ret' nor a call: {data!r}")
