"""Over ProtoBuf:1 Kong fails closed, and starts again when the server closes a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from kong_pdk.gateway.exchange import Exit, Refused
from kong_pdk.gateway.servers import failures
from kong_pdk.gateway.servers.failures import PluginFailed
from kong_pdk.gateway.servers.pool import Pool
from kong_pdk.gateway.servers.protobuf_client import ProtoBufClient
from kong_pdk.wire import protobuf_codec
from kong_pdk.wire.calls import CloseInstance, HandleEvent, StartInstance
from kong_pdk.wire.interface import STOCK
from kong_pdk.wire.pdk_values.protobuf_arguments import encode_arguments
from unit.gateway.pdk.exchanges import PLUGIN, Scene, scene
from unit.gateway.servers.scripted_servers import ProtoBufServer, Streams, frame_of, serving
from waiting import DEADLINE


def run(
    path: Path, server: Streams, work: Callable[[ProtoBufClient], Awaitable[None]], timeout: float = DEADLINE
) -> None:
    async def inner() -> None:
        pool = Pool(path, timeout)
        async with serving(path, server):
            try:
                await work(ProtoBufClient("probe", pool))
            finally:
                pool.close()

    asyncio.run(inner())


def handle(path: Path, server: Streams, phase: str = "access", timeout: float = DEADLINE) -> Scene:
    given = scene()
    run(path, server, lambda client: to_the_end(client, given, phase), timeout)
    return given


async def to_the_end(client: ProtoBufClient, given: Scene, phase: str) -> None:
    """Run an event, and then the callbacks of the request's end."""
    try:
        await client.handle(given.event(phase, "ProtoBuf:1"))
    finally:
        for end in given.exchange.at_end:
            end()


def asks(method: str, payload: bytes) -> Callable[..., Awaitable[bool]]:
    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(protobuf_codec.frame(method.encode()) + protobuf_codec.frame(payload))
        await frame_of(reader)
        return True

    return ask


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    return False


def test_instance_is_started_once(tmp_path: Path) -> None:
    server = ProtoBufServer()

    async def twice(client: ProtoBufClient) -> None:
        await client.handle(scene().event())
        await client.handle(scene().event("log"))

    run(tmp_path / "s", server, twice)
    assert server.kinds() == [StartInstance, HandleEvent, HandleEvent]
    assert server.events() == [HandleEvent(1, "access"), HandleEvent(1, "log")]
    assert server.connections == 1


def test_replaced_configuration_closes_the_old_instance(tmp_path: Path) -> None:
    server = ProtoBufServer()

    async def replaced(client: ProtoBufClient) -> None:
        await client.handle(scene().event())
        await client.handle(scene().event(plugin=replace(PLUGIN, sequence=2)))

    run(tmp_path / "s", server, replaced)
    assert server.kinds() == [StartInstance, HandleEvent, StartInstance, CloseInstance, HandleEvent]
    assert server.calls[3] == CloseInstance(1)
    assert server.events()[1].instance_id == 2


def test_calls_may_be_pipelined(tmp_path: Path) -> None:
    async def pipelined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        for value in ("1", "2"):
            payload = encode_arguments(STOCK.method("kong.response.set_header"), ["x-n", value])
            writer.write(protobuf_codec.frame(b"kong.response.set_header") + protobuf_codec.frame(payload))
        assert await frame_of(reader) == b""
        assert await frame_of(reader) == b""
        return True

    given = handle(tmp_path / "s", ProtoBufServer(pipelined))
    assert given.exchange.response.headers == [(b"x-n", b"2")]


@pytest.mark.parametrize("phase", ["access", "log"])
def test_refused_call_closes_the_connection(tmp_path: Path, phase: str) -> None:
    server = ProtoBufServer(asks("kong.client.authenticate", b""))
    with pytest.raises(Refused):
        handle(tmp_path / "s", server, phase)
    assert server.kinds() == [StartInstance, HandleEvent]


def test_after_exit_the_connection_closes_when_the_request_ends(tmp_path: Path) -> None:
    closed: list[bytes] = []

    async def exits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        payload = encode_arguments(STOCK.method("kong.response.exit"), [403])
        writer.write(protobuf_codec.frame(b"kong.response.exit") + protobuf_codec.frame(payload))
        closed.append(await reader.read())
        return False

    async def work(client: ProtoBufClient) -> None:
        given = scene()
        with pytest.raises(Exit) as raised:
            await client.handle(given.event(protocol="ProtoBuf:1"))
        assert (raised.value.status, raised.value.body) == (403, b"")
        assert closed == []
        assert len(given.exchange.at_end) == 1
        given.exchange.at_end.pop()()

    run(tmp_path / "s", ProtoBufServer(exits), work)


def test_method_that_the_interface_file_does_not_name_closes_the_connection(tmp_path: Path) -> None:
    with pytest.raises(PluginFailed, match=r"kong\.request\.get_body"):
        handle(tmp_path / "s", ProtoBufServer(asks("kong.request.get_body", b"")))


def test_missing_value_is_nil(tmp_path: Path) -> None:
    method = STOCK.method("kong.response.set_header")
    server = ProtoBufServer(asks(method.name, encode_arguments(method, ["x-a"])))
    with pytest.raises(Refused, match="got nil"):
        handle(tmp_path / "s", server)


def test_value_that_the_message_cannot_hold_closes_the_connection(tmp_path: Path) -> None:
    given = scene(raw_query=b"flag")
    payload = encode_arguments(STOCK.method("kong.request.get_query_arg"), ["flag"])
    server = ProtoBufServer(asks("kong.request.get_query_arg", payload))
    with pytest.raises(Refused, match=r"kong\.request\.get_query_arg"):
        run(tmp_path / "s", server, lambda client: to_the_end(client, given, "access"))


def test_an_event_starts_again_after_its_connection_closes(tmp_path: Path) -> None:
    outcomes = [False, False, True]

    async def twice_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        return outcomes.pop(0)

    server = ProtoBufServer(twice_closed)
    given = handle(tmp_path / "s", server)
    assert server.kinds() == [StartInstance, HandleEvent] * 3
    assert "the event is tried again" in given.written.getvalue()


def test_the_end_of_retries_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "MAX_ATTEMPTS", 5)
    server = ProtoBufServer(close)
    with pytest.raises(PluginFailed, match="given up after 5 attempts"):
        handle(tmp_path / "s", server)
    assert len(server.events()) == 5


def test_server_down_is_a_500(tmp_path: Path) -> None:
    client = ProtoBufClient("probe", Pool(tmp_path / "nobody"))
    with pytest.raises(PluginFailed, match="No such file or directory"):
        asyncio.run(client.handle(scene().event()))


def test_start_instance_that_closes_the_connection_is_a_500_without_a_retry(tmp_path: Path) -> None:
    connections: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(await frame_of(reader))

    with pytest.raises(PluginFailed, match="failed to start the instance: closed"):
        handle(tmp_path / "s", refuse)
    assert len(connections) == 1


def test_answer_without_a_status_is_a_500(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sequence, _ = protobuf_codec.decode_call(await frame_of(reader))
        writer.write(protobuf_codec.frame(protobuf_codec.encode_return(sequence, None)))
        await reader.read()

    with pytest.raises(PluginFailed, match="has no instance_status"):
        handle(tmp_path / "s", answer)


def test_no_answer_is_a_500_after_the_time_out(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await reader.read()
        return False

    with pytest.raises(PluginFailed, match="timeout"):
        handle(tmp_path / "s", ProtoBufServer(silent), timeout=0.2)


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xff\xff\xff",
        protobuf_codec.frame(b"") + protobuf_codec.frame(b"\xff\xff"),
        protobuf_codec.frame(b"") + protobuf_codec.frame(protobuf_codec.encode_return(99, None)),
        protobuf_codec.frame(b"") + protobuf_codec.frame(protobuf_codec.encode_return(3, None)) + b"more",
    ],
)
def test_bytes_that_are_not_frames_are_a_500(tmp_path: Path, sent: bytes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(sent)
        await reader.read()
        return False

    with pytest.raises(PluginFailed):
        handle(tmp_path / "s", ProtoBufServer(babble))


def test_many_events_at_once_have_a_connection_each(tmp_path: Path) -> None:
    server = ProtoBufServer(asks("kong.request.get_method", b""))

    async def at_once(client: ProtoBufClient) -> None:
        await asyncio.gather(*(client.handle(scene().event()) for _ in range(8)))
        await client.handle(scene().event())

    run(tmp_path / "s", server, at_once)
    assert server.kinds().count(StartInstance) == 1
    assert len(server.events()) == 9
    assert server.connections <= 9
