"""Connections: bytes in pieces of any size, invalid bytes, peers that disconnect."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_kong import MsgpackKong, ProtobufKong, RpcError
from kong_pdk.server import engines, event_ids
from kong_pdk.server.call_plan import Plans, plan_over_msgpack
from kong_pdk.server.protocols import msgpack_event as event_module
from kong_pdk.wire import calls, protobuf_codec
from kong_pdk.wire.kong_side import PdkCall
from kong_pdk.wire.msgpack_codec import encode_request
from waiting import DEADLINE, wait_for


class Quiet:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        kong.request.get_header("x")


def plans(phase: str) -> Plans:
    return Plans(lambda function: plan_over_msgpack(function, phase))


def raw(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(DEADLINE)
    connection.connect(str(path))
    return connection


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x94\x00\xff\xff\xff\xff\xff\xff",
        b"\x94\x00\x01\xa1x\xc0",  # a request whose arguments are no list
        b"\x94\x00\xc1\xc1",
        b"\xff\xff\xff\xff" * 4,
        b"\x05\x00\x00\x00hello",
        b"\x00\x00\x00\x00",
        bytes(range(256)),
    ],
)
def test_garbage_closes_only_the_connection_of_its_sender(serve, connect, garbage):
    path = serve(Quiet)
    kong = connect(path)
    instance = kong.start("probe")
    with raw(path) as bad:
        bad.sendall(garbage)
        with contextlib.suppress(ConnectionError):  # closed with unread bytes is a reset
            bad.shutdown(socket.SHUT_WR)
            while bad.recv(4096):
                pass
    assert kong.event(instance, "access")


def test_a_silent_connection_does_not_disturb_others(serve, connect):
    path = serve(Quiet)
    with raw(path):
        kong = connect(path)
        assert kong.event(kong.start("probe"), "access")


@pytest.mark.parametrize("protocol", ["msgpack", "protobuf"])
def test_bytes_may_come_one_by_one(serve, protocol):
    order = encode_request(7, "plugin.GetStatus", [])
    if protocol == "protobuf":
        order = protobuf_codec.frame(protobuf_codec.encode_call(7, calls.GetPluginNames()))
    with raw(serve(Quiet)) as connection:
        for byte in order:
            connection.sendall(bytes([byte]))
        assert connection.recv(4096)


def test_a_first_message_of_any_length_is_told_from_messagepack(serve):
    """The length of this one begins as a request of MsgPack:1 does."""
    kong = ProtobufKong(serve(Quiet))
    message = {"a": ""}
    empty = len(protobuf_codec.encode_call(1, calls.StartInstance("probe", json.dumps(message).encode())))
    message["a"] = "x" * (0x10094 - empty - 4)  # the two lengths in it take two bytes more each
    sent = protobuf_codec.encode_call(1, calls.StartInstance("probe", json.dumps(message).encode()))
    assert len(sent) == 0x10094
    assert kong.start("probe", message)
    kong.close()


def test_steps_may_come_on_other_connections(serve):
    path = serve(Quiet)
    first, second = MsgpackKong(path), MsgpackKong(path)
    instance = first.start("probe")
    output = first.ask("plugin.HandleEvent", {"InstanceId": instance, "EventName": "access"})
    assert output["Data"]["Method"] == "kong.request.get_header"
    # the first connection is free for another event meanwhile
    assert first.event(instance, "access", {"kong.request.get_header": "y"})
    assert second.ask("plugin.Step", {"EventId": output["EventId"], "Data": "x"})["Data"] == "ret"
    first.close()
    second.close()


def test_an_event_that_kong_abandons_is_let_go(serve, monkeypatch, caplog):
    monkeypatch.setattr(event_module, "STEP_SECONDS", 0.05)
    unwound = threading.Event()

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            try:
                kong.request.get_header("x")
            finally:
                unwound.set()

    kong = MsgpackKong(serve(Plugin))
    output = kong.ask("plugin.HandleEvent", {"InstanceId": kong.start("probe"), "EventName": "access"})
    assert unwound.wait(DEADLINE)
    # the handler has not come to its end: the request must not go on
    late = kong.ask("plugin.Step", {"EventId": output["EventId"], "Data": "late"})
    assert late["Data"] == {"Method": "kong.response.error", "Args": [500]}
    wait_for(lambda: "Kong has not answered kong.request.get_header in access for 0.05 s" in caplog.text)
    assert "test_connections.py:" in caplog.text
    kong.close()


@pytest.mark.parametrize(
    ("phase", "answer"),
    [
        ("log", "ret"),
        ("access", {"Method": "kong.response.error", "Args": [500]}),
        ("response", {"Method": "kong.response.error", "Args": [500]}),
        ("preread", {"Method": "kong.response.exit", "Args": [500]}),
        ("certificate", {"Method": "kong.response.exit", "Args": [500]}),
    ],
)
@pytest.mark.parametrize("slot", [0, 63])
def test_the_id_of_an_event_tells_the_phase_where_its_worker_was_killed(serve, phase, answer, slot):
    """In `log` Kong refuses both calls, and may then give the data of this request to a later one."""

    class Plugin:
        def __init__(self, config):
            pass

    lost = event_module.Events(slot).begin(phase, plans(phase))
    kong = MsgpackKong(serve(Plugin))
    assert kong.ask("plugin.Step", {"EventId": lost.id, "Data": "value"}) == {"Data": answer, "EventId": lost.id}
    assert 0 <= lost.id < 2**31 and event_ids.phase_of(lost.id) == phase
    kong.close()


def test_an_id_is_not_given_twice(monkeypatch):
    monkeypatch.setattr(event_module, "NUMBERS", 3)
    monkeypatch.setattr(event_ids, "NUMBERS", 3)
    events = event_module.Events()
    held = [events.begin("access", plans("access")) for _ in range(3)]
    assert len({event.id for event in held}) == 3
    events.end(held[1])
    assert events.begin("access", plans("access")).id == held[1].id


def test_a_late_value_in_log_ends_the_event(serve, monkeypatch):
    monkeypatch.setattr(event_module, "STEP_SECONDS", 0.05)

    class Plugin:
        def __init__(self, config):
            pass

        def log(self, kong):
            try:
                kong.request.get_header("x")
            finally:
                unwound.set()

    unwound = threading.Event()
    kong = MsgpackKong(serve(Plugin))
    output = kong.ask("plugin.HandleEvent", {"InstanceId": kong.start("probe"), "EventName": "log"})
    assert unwound.wait(DEADLINE)
    assert kong.ask("plugin.Step", {"EventId": output["EventId"]})["Data"] == "ret"
    kong.close()


def test_a_request_whose_event_went_with_its_server_ends_with_500(serve):
    path = serve(Quiet)
    kong = MsgpackKong(path)
    output = kong.ask("plugin.HandleEvent", {"InstanceId": kong.start("probe"), "EventName": "access"})
    other = MsgpackKong(serve(Quiet))
    assert other.ask("plugin.HandleEvent", {"InstanceId": other.start("probe"), "EventName": "access"})
    answer = other.ask("plugin.Step", {"EventId": output["EventId"], "Data": "of another request"})
    assert answer["Data"] == {"Method": "kong.response.error", "Args": [500]}
    kong.close()
    other.close()


def test_events_that_kong_abandons_make_room_for_others(serve, monkeypatch):
    """Clients that make Kong refuse calls must not block other requests of the plugin."""
    monkeypatch.setenv("KONG_PYTHON_CONCURRENCY", "4")
    monkeypatch.setattr(event_module, "PATIENCE_SECONDS", 0.0)
    kong = MsgpackKong(serve(Quiet))
    instance = kong.start("probe")
    abandoned = [kong.ask("plugin.HandleEvent", {"InstanceId": instance, "EventName": "access"}) for _ in range(40)]
    assert kong.event(instance, "access", {"kong.request.get_header": "y"})
    late = kong.ask("plugin.Step", {"EventId": abandoned[0]["EventId"], "Data": "late"})
    assert late["Data"]["Method"] == "kong.response.error"
    kong.close()


def test_an_event_for_which_there_is_no_room_fails_closed(serve, connect, monkeypatch, caplog):
    monkeypatch.setenv("KONG_PYTHON_CONCURRENCY", "1")
    monkeypatch.setattr(engines, "FREE_SECONDS", 0.05)
    begun, go_on = threading.Event(), threading.Event()

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            begun.set()
            kong.request.get_path()

        def log(self, kong):
            pass

    path = serve(Plugin)
    first, second = connect(path), connect(path)
    instance = first.start("probe")
    held = {"kong.request.get_path": lambda: go_on.wait(DEADLINE) and "/"}
    with ThreadPoolExecutor(1) as workers:
        busy = workers.submit(first.event, instance, "access", held)
        assert begun.wait(DEADLINE)
        assert not second.event(instance, "access")
        if second.name == "MsgPack:1":
            assert second.made == [("kong.response.error", [503, "The server is overloaded", {"Retry-After": "1"}])]
            assert second.event(instance, "log")
        else:
            method, args = second.made[-1]
            assert (method, args[0]) == ("kong.response.exit", 503)
        assert "probe: access is refused, since too many events run and wait" in caplog.text
        go_on.set()
        assert busy.result(DEADLINE)
    assert connect(path).event(instance, "log")


def test_a_server_that_stops_waits_for_the_replies_to_the_last_calls(serve):
    """Kong has still to make them, and the event's end is behind them: it must not find the connection closed."""

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.response.set_header("x", "y")

    path = serve(Plugin)
    server = serve.server(path)
    kong = ProtobufKong(path)
    kong.send(calls.HandleEvent(kong.start("probe"), "access"))
    call = kong.next()
    assert isinstance(call, PdkCall) and call.method == "kong.response.set_header"
    wait_for(lambda: server.loop.owed and not server.running)
    stopped: list[bool] = []
    stopping = threading.Thread(target=lambda: stopped.append(serve.stop(path)))
    stopping.start()
    wait_for(lambda: server.is_stopping)
    kong.reply(b"")
    assert kong.answer() is None
    stopping.join(DEADLINE)
    assert stopped == [True]
    kong.close()


def test_a_stopped_server_waits_for_no_kong_that_has_left(serve):
    path = serve(Quiet)
    kong = MsgpackKong(path)
    kong.ask("plugin.HandleEvent", {"InstanceId": kong.start("probe"), "EventName": "access"})
    kong.close()
    assert serve.stop(path)


def test_a_kong_that_goes_away_in_an_event_unwinds_the_handler(serve, connect):
    unwound = threading.Event()
    begun = threading.Event()

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            begun.set()
            try:
                kong.request.get_header("x")
                kong.request.get_header("y")
            finally:
                unwound.set()

    path = serve(Plugin)
    kong = ProtobufKong(path)
    kong.send(calls.HandleEvent(kong.start("probe"), "access"))
    assert begun.wait(DEADLINE)
    kong.close()
    assert unwound.wait(DEADLINE)


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("plugin.NoSuch", []),
        ("plugin.HandleEvent", []),
        ("plugin.HandleEvent", [{"InstanceId": "x"}]),
        ("plugin.Step", []),
        ("plugin.CloseInstance", ["x"]),
        ("plugin.StartInstance", [{"Name": "probe", "Config": 5}]),
        ("plugin.StartInstance", [{"Name": "probe", "Config": "{"}]),
        ("plugin.StartInstance", [{"Name": "other", "Config": "{}"}]),
        ("plugin.GetPluginInfo", ["other"]),
        ("plugin.GetInstanceStatus", [12345]),
    ],
)
def test_a_wrong_request_is_answered_with_an_error(serve, method, args):
    kong = MsgpackKong(serve(Quiet))
    with pytest.raises(RpcError):
        kong.ask(method, *args)
    assert kong.event(kong.start("probe"), "access")
    kong.close()


def test_status_calls_over_msgpack(serve):
    kong = MsgpackKong(serve(Quiet))
    instance = kong.start("probe", {"a": 1, "__seq__": 3})
    status = kong.ask("plugin.GetStatus")
    assert status["Pid"] == os.getpid()
    assert [entry["Id"] for entry in status["Plugins"]["probe"]["Instances"]] == [instance]
    info = kong.ask("plugin.GetPluginInfo", "probe")
    assert (info["Name"], info["Phases"], info["Version"], info["Priority"]) == ("probe", ["access"], "1.0.0", 1)
    described = kong.ask("plugin.GetInstanceStatus", instance)
    assert (described["Name"], described["Id"]) == ("probe", instance)
    assert described["StartTime"] <= time.time()
    assert kong.ask("plugin.CloseInstance", instance) == {"Name": "probe", "Id": instance}
    kong.close()


def test_status_calls_over_protobuf(serve):
    kong = ProtobufKong(serve(Quiet))
    instance = kong.start("probe")
    assert kong.ask(calls.GetPluginNames()) == calls.PluginNames(("probe",))
    info = kong.ask(calls.GetPluginInfo("probe"))
    assert (info.name, info.phases, info.version, info.priority) == ("probe", ("access",), "1.0.0", 1)
    assert kong.ask(calls.GetInstanceStatus(instance)).instance_id == instance
    assert kong.ask(calls.GetInstanceStatus(instance + 1)) is None
    assert kong.ask(calls.CloseInstance(instance)).instance_id == instance
    kong.close()


@pytest.mark.on_threads
def test_an_event_for_which_there_is_no_thread_is_served_later(serve, connect, monkeypatch, caplog):
    """The server neither sleeps nor closes the connection: Kong would try again at once."""
    path = serve(Quiet)
    first, others = connect(path), [connect(path) for _ in range(3)]
    instance = first.start("probe")
    start, there_are_some, go_on = threading.Thread.start, threading.Event(), threading.Event()
    refused = []

    def start_if_there_is_one(thread):
        if thread.name == "handler" and begun.is_set() and not there_are_some.is_set():
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    def hold(name):
        begun.set()
        assert go_on.wait(DEADLINE)
        return "x"

    begun = threading.Event()
    monkeypatch.setattr(threading.Thread, "start", start_if_there_is_one)
    with ThreadPoolExecutor(4) as workers:
        held = workers.submit(first.event, instance, "access", {"kong.request.get_header": hold})
        assert begun.wait(DEADLINE)
        late = [workers.submit(kong.event, instance, "access") for kong in others]
        wait_for(lambda: len(refused) >= 4)
        with raw(path) as another:  # the loop goes on
            another.sendall(b"\x94\x00\xc1\xc1")
            assert another.recv(1) == b""
        assert not any(event.done() for event in late)
        assert caplog.text.count("events wait for a thread: can't start new thread") == 1
        there_are_some.set()
        assert all(event.result(DEADLINE) for event in late)
        go_on.set()
        assert held.result(DEADLINE)


@pytest.mark.on_threads
def test_an_event_for_which_there_is_no_thread_gets_the_next_free_one(serve, connect, monkeypatch):
    path = serve(Quiet)
    first, others = connect(path), [connect(path) for _ in range(3)]
    instance = first.start("probe")
    start, begun, go_on = threading.Thread.start, threading.Event(), threading.Event()
    refused = []

    def start_no_more(thread):
        if thread.name == "handler" and begun.is_set():
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    def hold(name):
        begun.set()
        assert go_on.wait(DEADLINE)
        return "x"

    monkeypatch.setattr(threading.Thread, "start", start_no_more)
    with ThreadPoolExecutor(4) as workers:
        held = workers.submit(first.event, instance, "access", {"kong.request.get_header": hold})
        assert begun.wait(DEADLINE)
        late = [workers.submit(kong.event, instance, "access") for kong in others]
        wait_for(lambda: refused)
        go_on.set()
        assert all(event.result(DEADLINE) for event in [held, *late])


@pytest.mark.on_threads
def test_a_server_that_has_no_thread_for_an_event_stops_at_once(serve, monkeypatch):
    path = serve(Quiet)
    kong = ProtobufKong(path)
    instance = kong.start("probe")
    refused = threading.Event()

    def refuse(thread):
        refused.set()
        raise RuntimeError("can't start new thread")

    with contextlib.closing(kong), monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        kong.send(calls.HandleEvent(instance, "access"))
        assert refused.wait(DEADLINE)
        assert serve.stop(path)
        assert kong.socket.recv(1) == b""


def test_a_server_of_idle_connections_stops_at_once(serve, connect):
    path = serve(Quiet)
    connect(path).start("probe")
    with raw(path) as silent:
        wait_for(lambda: len(serve.server(path).loop.connections) == 2)
        assert serve.stop(path)
        assert silent.recv(1) == b""


def test_connections_need_no_threads(serve, connect):
    path = serve(Quiet)
    first = connect(path)
    instance = first.start("probe")
    assert first.event(instance, "access")
    before = threading.active_count()
    for _ in range(30):
        assert connect(path).event(instance, "access")
    assert threading.active_count() <= before + 2  # a thread is not idle yet when Kong has its answer


def test_connections_wait_while_there_is_no_file_descriptor(serve, connect, monkeypatch, caplog):
    path = serve(Quiet)
    kong = connect(path)
    instance = kong.start("probe")
    accept, refused, free = socket.socket.accept, [], threading.Event()

    def accept_if_free(listening):
        if not free.is_set():
            refused.append(listening)
            raise OSError(24, "Too many open files")
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", accept_if_free)
    late = connect(path)
    deadline = time.monotonic() + DEADLINE
    while len(refused) < 3:
        assert time.monotonic() < deadline
        assert kong.event(instance, "access")
    assert caplog.text.count("cannot accept a connection: Too many open files") == 1
    free.set()
    assert late.event(instance, "access")


@pytest.mark.parametrize("is_of_kong", [False, True])
def test_a_worker_whose_plugin_has_all_descriptors_is_replaced(serve, monkeypatch, is_of_kong):
    """Where they are Kong's connections, another worker would have no more."""
    monkeypatch.setattr("kong_pdk.server.server._SHORTAGE_SECONDS", 0.05)
    path = serve(Quiet)
    server, told, refused = serve.server(path), [], []
    server._on_stuck = lambda *said: told.append(said)
    kong = ProtobufKong(path)
    kong.start("probe")
    if is_of_kong:
        monkeypatch.setattr("resource.getrlimit", lambda number: (2, 2))

    def accept(listening):
        refused.append(listening)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket.socket, "accept", accept)
    late = ProtobufKong(path)
    wait_for(lambda: len(refused) > 4 if is_of_kong else told)
    why = "cannot accept connections (Too many open files), although it has only 1"
    assert told == ([] if is_of_kong else [(why, False)])
    monkeypatch.undo()
    late.close()
    kong.close()
