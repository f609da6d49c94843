"""Over MsgPack:1 Kong fails open: errors are logged, and the request passes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kong_pdk.gateway.exchange import Exit, Refused
from kong_pdk.gateway.servers import failures
from kong_pdk.gateway.servers.failures import PluginFailed
from kong_pdk.gateway.servers.msgpack_client import MsgPackClient
from kong_pdk.gateway.servers.pool import Pool
from kong_pdk.wire import msgpack_codec
from unit.gateway.pdk.exchanges import PLUGIN, Scene, scene
from unit.gateway.servers.scripted_servers import MsgPackServer, serving
from waiting import DEADLINE

STARTED = (None, {"Name": "probe", "Id": 7})
DONE = (None, {"Data": "ret", "EventId": 1})


def asks(method: str, *args: Any) -> tuple[None, dict[str, Any]]:
    return None, {"Data": {"Method": method, "Args": list(args)}, "EventId": 1}


def run(
    path: Path, server: MsgPackServer, work: Callable[[MsgPackClient], Awaitable[None]], timeout: float = DEADLINE
) -> None:
    async def inner() -> None:
        pool = Pool(path, timeout)
        async with serving(path, server):
            try:
                await work(MsgPackClient("probe", pool))
            finally:
                pool.close()

    asyncio.run(inner())


def handle(path: Path, server: MsgPackServer, timeout: float = DEADLINE) -> Scene:
    given = scene()
    run(path, server, lambda client: client.handle(given.event()), timeout)
    return given


def test_instance_is_started_once_and_named_in_every_event(tmp_path: Path) -> None:
    server = MsgPackServer(StartInstance=STARTED, HandleEvent=DONE)

    async def twice(client: MsgPackClient) -> None:
        await client.handle(scene().event())
        await client.handle(scene().event("log"))

    run(tmp_path / "s", server, twice)
    assert server.names() == ["StartInstance", "HandleEvent", "HandleEvent"]
    assert [argument for _, argument in server.requests[1:]] == [
        {"InstanceId": 7, "EventName": "access"},
        {"InstanceId": 7, "EventName": "log"},
    ]
    assert server.connections == 1


def test_replaced_configuration_starts_the_new_instance_before_the_old_is_closed(tmp_path: Path) -> None:
    server = MsgPackServer(StartInstance=STARTED, HandleEvent=DONE, CloseInstance=(None, None))

    async def replaced(client: MsgPackClient) -> None:
        await client.handle(scene().event())
        await client.handle(scene().event(plugin=replace(PLUGIN, sequence=2)))

    run(tmp_path / "s", server, replaced)
    assert server.names() == ["StartInstance", "HandleEvent", "StartInstance", "CloseInstance", "HandleEvent"]
    assert server.requests[3] == ("CloseInstance", 7)


def test_unknown_function_is_logged_by_name_and_answered_without_data(tmp_path: Path) -> None:
    server = MsgPackServer(StartInstance=STARTED, HandleEvent=asks("kong.no.such", 1), Step=DONE)
    given = handle(tmp_path / "s", server)
    assert server.requests[-1] == ("Step", {"EventId": 1})
    assert "kong.no.such" in given.written.getvalue()


def test_refused_call_gets_no_step(tmp_path: Path) -> None:
    server = MsgPackServer(StartInstance=STARTED, HandleEvent=asks("kong.response.get_status"))
    with pytest.raises(Refused, match=r"kong\.response\.get_status cannot be called in access phase"):
        handle(tmp_path / "s", server)
    assert server.names() == ["StartInstance", "HandleEvent"]


def test_exit_without_a_body_is_filled_by_nginx(tmp_path: Path) -> None:
    server = MsgPackServer(StartInstance=STARTED, HandleEvent=asks("kong.response.exit", 403, None, {"x": "y"}))
    with pytest.raises(Exit) as raised:
        handle(tmp_path / "s", server)
    assert (raised.value.status, raised.value.body, raised.value.headers) == (403, None, [])


def test_error_of_an_event_is_logged_and_the_request_passes(tmp_path: Path) -> None:
    server = MsgPackServer(StartInstance=STARTED, HandleEvent=("handler raised", None))
    given = handle(tmp_path / "s", server)
    assert "[error] kong: [probe] handler raised" in given.written.getvalue()


def test_error_that_is_not_a_string_is_a_500(tmp_path: Path) -> None:
    server = MsgPackServer(StartInstance=STARTED, HandleEvent=({"message": "x"}, None))
    with pytest.raises(PluginFailed, match="no string"):
        handle(tmp_path / "s", server)


def test_error_of_start_instance_is_a_500(tmp_path: Path) -> None:
    with pytest.raises(PluginFailed, match="bad configuration"):
        handle(tmp_path / "s", MsgPackServer(StartInstance=("bad configuration", None)))


@pytest.mark.parametrize("result", [5, {}, {"Data": None}, {"Data": {"Method": 5}}, {"Data": "other"}])
def test_invalid_answer_is_a_500(tmp_path: Path, result: object) -> None:
    with pytest.raises(PluginFailed):
        handle(tmp_path / "s", MsgPackServer(StartInstance=STARTED, HandleEvent=(None, result)))


def test_bytes_that_are_not_messagepack_rpc_are_a_500(tmp_path: Path) -> None:
    server = MsgPackServer(StartInstance=STARTED)
    server.before = [b"HTTP/1.1 400"]
    with pytest.raises(PluginFailed, match="MessagePack-RPC"):
        handle(tmp_path / "s", server)


def test_bytes_after_the_answer_are_a_500(tmp_path: Path) -> None:
    server = MsgPackServer(StartInstance=STARTED)
    server.before = [msgpack_codec.encode_response(1, *STARTED)]
    with pytest.raises(PluginFailed, match="in place of answer 1 alone"):
        handle(tmp_path / "s", server)


def test_unknown_instance_is_started_again(tmp_path: Path) -> None:
    answers = [("No plugin instance 7", None), DONE]
    server = MsgPackServer(StartInstance=STARTED, HandleEvent=lambda _: answers.pop(0))
    handle(tmp_path / "s", server)
    assert server.names() == ["StartInstance", "HandleEvent"] * 2


def test_the_end_of_retries_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "MAX_ATTEMPTS", 5)
    server = MsgPackServer(StartInstance=STARTED, HandleEvent=("no plugin instance", None))
    with pytest.raises(PluginFailed, match="given up after 5 attempts"):
        handle(tmp_path / "s", server)
    assert server.names().count("HandleEvent") == 5


def test_changed_server_pid_forgets_the_instances(tmp_path: Path) -> None:
    server = MsgPackServer(StartInstance=STARTED, HandleEvent=DONE)

    async def restarted(client: MsgPackClient) -> None:
        for pid in (100, 100, 200, 200):
            server.before = [msgpack_codec.encode_notification("serverPid", pid)]
            await client.handle(scene().event())

    run(tmp_path / "s", server, restarted)
    assert server.names() == ["StartInstance", *["HandleEvent"] * 3, "StartInstance", "HandleEvent"]


def test_server_down_before_the_first_event_is_a_500(tmp_path: Path) -> None:
    client = MsgPackClient("probe", Pool(tmp_path / "nobody"))
    with pytest.raises(PluginFailed, match="No such file or directory"):
        asyncio.run(client.handle(scene().event()))


def test_server_down_later_lets_the_request_pass(tmp_path: Path) -> None:
    path, given = tmp_path / "s", scene()
    server = MsgPackServer(StartInstance=STARTED, HandleEvent=DONE)

    async def inner() -> None:
        pool = Pool(path)
        client = MsgPackClient("probe", pool)
        async with serving(path, server):
            await client.handle(scene().event())
            pool.close()
        path.unlink(missing_ok=True)
        await client.handle(given.event())

    asyncio.run(inner())
    assert "the request passes without this plugin" in given.written.getvalue()


def test_server_that_closes_during_an_event_lets_the_request_pass(tmp_path: Path) -> None:
    server = MsgPackServer(StartInstance=STARTED, HandleEvent=lambda _: None)
    assert "closed; the request passes" in handle(tmp_path / "s", server).written.getvalue()


def test_server_that_does_not_answer_lets_the_request_pass_after_the_time_out(tmp_path: Path) -> None:
    class Silent(MsgPackServer):
        async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            data = await reader.read(65536)
            request = msgpack_codec.Messages().feed(data)[0]
            assert isinstance(request, msgpack_codec.Request)
            if request.method == "plugin.StartInstance":
                writer.write(msgpack_codec.encode_response(request.id, *STARTED))
                await reader.read(65536)
            await asyncio.Event().wait()

    given = handle(tmp_path / "s", Silent(), timeout=0.2)
    assert "timeout; the request passes" in given.written.getvalue()


def test_steps_of_an_event_go_over_any_idle_connection(tmp_path: Path) -> None:
    server = MsgPackServer(
        StartInstance=STARTED, HandleEvent=asks("kong.request.get_method"), Step=(None, {"Data": "ret"})
    )

    async def at_once(client: MsgPackClient) -> None:
        await asyncio.gather(*(client.handle(scene().event()) for _ in range(8)))

    run(tmp_path / "s", server, at_once)
    assert server.names().count("StartInstance") == 1
    assert server.names().count("Step") == 8
    assert 1 <= server.connections <= 8
