"""Kong's client for ProtoBuf:1: one event at a time on a connection, PDK calls in between, closed on failure."""

from __future__ import annotations

from kong_pdk.gateway.entities import PluginConfig
from kong_pdk.gateway.exchange import Exit, Refused
from kong_pdk.gateway.pdk import Event
from kong_pdk.gateway.servers.answers import answer
from kong_pdk.gateway.servers.failures import Closed, PluginFailed, Unreachable
from kong_pdk.gateway.servers.pool import Connection, Pool
from kong_pdk.gateway.servers.retries import Retries
from kong_pdk.gateway.servers.started_instances import Instances, configuration
from kong_pdk.wire import protobuf
from kong_pdk.wire.calls import CloseInstance, HandleEvent, InstanceStatus, StartInstance
from kong_pdk.wire.errors import WireError
from kong_pdk.wire.interface import STOCK, Interface


class _FrameStream:
    """Whole frames from a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._frames = protobuf.Frames()
        self._received: list[bytes] = []

    async def next(self) -> bytes:
        while not self._received:
            self._received = self._frames.feed(await self._connection.receive())
        return self._received.pop(0)

    def check_end(self) -> None:
        """Raise WireError when more has come than was asked for: the connection is of no use any more."""
        if self._received or self._frames.partial:
            raise WireError("the plugin server sent more than its answer")


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
                # The answer to "unknown instance": Kong drops all of the plugin's and begins anew.
                self.instances.forget_all()
                retries.again(f"the plugin server closed the connection ({error})")
            except (Unreachable, WireError) as error:
                raise PluginFailed(str(error)) from error
            else:
                return

    async def _run(self, event: Event, instance: int) -> None:
        sequence = self._next_sequence()
        connection = await self._pool.take()
        try:
            request = protobuf.encode_call(sequence, HandleEvent(instance, event.phase))
            await connection.send(protobuf.frame(request))
            await self._serve(event, connection, sequence)
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

    async def _serve(self, event: Event, connection: Connection, sequence: int) -> None:
        frames = _FrameStream(connection)
        while True:
            name = await frames.next()
            if not name:
                break
            arguments = await frames.next()
            reply = await answer(event, self._interface, name.decode("utf-8", "replace"), arguments)
            await connection.send(protobuf.frame(reply))
        await _returned(frames, sequence)

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
            return  # it was to go anyway; Kong does not try again

    async def _request(self, request: StartInstance | CloseInstance) -> object:
        sequence = self._next_sequence()
        connection = await self._pool.take()
        try:
            await connection.send(protobuf.frame(protobuf.encode_call(sequence, request)))
            returned = await _returned(_FrameStream(connection), sequence)
        except BaseException:
            connection.close()
            raise
        self._pool.give(connection)
        return returned

    def _next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence


async def _returned(frames: _FrameStream, sequence: int) -> object:
    """The server's answer to a call. Raises WireError when it is that to another."""
    answered, returned = protobuf.decode_return(await frames.next())
    if answered != sequence:
        raise WireError(f"the plugin server answered call {answered} in place of {sequence}")
    frames.check_end()
    return returned
