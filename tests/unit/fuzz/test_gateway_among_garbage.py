"""The embedded gateway, end to end: a plugin server that sends garbage only fails its own requests."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kong_pdk.wire import msgpack_codec, protobuf_codec
from kong_pdk.wire.calls import HandleEvent, InstanceStatus
from local_servers import http_service, unix_service
from running_gateway import RunningGateway, recorded_upstream

ROUNDS = 8
NOTHING = b""
NO_CALL = 2**31 - 1
"""The number of no call of a test."""


class Server:
    """A plugin server that answers StartInstance properly, and events with given bytes."""

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self.events: bytes | None = NOTHING
        """What is answered to an event; None for a right answer."""

    def serve(self, connection: socket.socket) -> None:
        frames, messages = protobuf_codec.Frames(), msgpack_codec.Messages()
        while data := connection.recv(65536):
            if self.protocol == "ProtoBuf:1":
                answers = [self._protobuf(payload) for payload in frames.feed(data)]
            else:
                answers = [self._msgpack(message) for message in messages.feed(data)]
            for answer in answers:
                connection.sendall(answer)
                if not answer:
                    return

    def _protobuf(self, payload: bytes) -> bytes:
        sequence, call = protobuf_codec.decode_call(payload)
        if not isinstance(call, HandleEvent):
            return protobuf_codec.frame(protobuf_codec.encode_return(sequence, InstanceStatus("any", 1)))
        right = protobuf_codec.frame(b"") + protobuf_codec.frame(protobuf_codec.encode_return(sequence, None))
        return right if self.events is None else self.events

    def _msgpack(self, message: Any) -> bytes:
        if message.method != "plugin.HandleEvent":
            return msgpack_codec.encode_response(message.id, None, {"Name": "any", "Id": 1})
        right = msgpack_codec.encode_response(message.id, None, {"Data": "ret", "EventId": 1})
        return right if self.events is None else self.events


def dump(name: str, protocol: str) -> str:
    schema = {"name": name, "fields": [{"config": {"type": "record", "fields": []}}]}
    plugin = {"Name": name, "Version": "1.0.0", "Priority": 5, "Phases": ["access"], "Schema": schema}
    return json.dumps({"Protocol": protocol, "Plugins": [plugin]})


KONG_YML = """
_format_version: "3.0"
services:
- name: s
  url: http://127.0.0.1:{port}
  routes:
  - {{name: bad, paths: [/bad], plugins: [{{name: bad}}]}}
  - {{name: good, paths: [/good], plugins: [{{name: good}}]}}
"""


class Setup:
    def __init__(self, gateway: RunningGateway, bad: Server) -> None:
        self.gateway, self.bad = gateway, bad

    def status(self, path: str) -> int:
        request = f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        return int(self.gateway.send(request.encode()).split(b" ", 2)[1])


@pytest.fixture(scope="module", params=["ProtoBuf:1", "MsgPack:1"])
def setup(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    prefix = tmp_path_factory.mktemp("kong")
    with ExitStack() as stack:
        port = stack.enter_context(http_service(recorded_upstream))
        (prefix / "kong.yml").write_text(KONG_YML.format(port=port))
        environment = {
            "KONG_DECLARATIVE_CONFIG": str(prefix / "kong.yml"),
            "KONG_PLUGINS": "good,bad",
            "KONG_PLUGINSERVER_NAMES": "good,bad",
        }
        servers = {}
        for name in ("good", "bad"):
            servers[name] = Server(request.param)
            stack.enter_context(unix_service(prefix / f"{name}.socket", servers[name].serve))
            (prefix / f"{name}.json").write_text(dump(name, request.param))
            environment[f"KONG_PLUGINSERVER_{name.upper()}_SOCKET"] = str(prefix / f"{name}.socket")
            environment[f"KONG_PLUGINSERVER_{name.upper()}_QUERY_CMD"] = f"cat '{prefix}/{name}.json'"
        servers["good"].events = None
        yield Setup(stack.enter_context(RunningGateway(prefix, environment)), servers["bad"])


GARBAGE = {
    "another-protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "zeros": bytes(64),
    "ones": b"\xff" * 64,
    "all-bytes": bytes(reversed(range(256))),
    "huge-frame": struct.pack("=I", 2**31),
    "call-in-place-of-a-return": protobuf_codec.frame(b"")
    + protobuf_codec.frame(protobuf_codec.encode_call(1, HandleEvent(1, "access"))),
    "return-of-no-call": protobuf_codec.frame(b"") + protobuf_codec.frame(protobuf_codec.encode_return(NO_CALL, None)),
    "response-of-no-request": msgpack_codec.encode_response(2**31, None, {"Data": "ret"}),
    "request-in-place-of-a-response": msgpack_codec.encode_request(1, "plugin.HandleEvent", [{}]),
    "nested": b"\x94\x01\x02\xc0" + b"\x91" * 100_000,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_a_500_only_of_its_own_request(setup, garbage):
    setup.bad.events = garbage
    assert setup.status("/bad") == 500
    assert setup.status("/good") == 200
    setup.bad.events = None
    assert setup.status("/bad") == 200


def test_a_server_that_closes_its_connections_is_a_500_or_skipped(setup, monkeypatch):
    monkeypatch.setattr("kong_pdk.gateway.servers.failures.MAX_ATTEMPTS", 3)
    setup.bad.events = NOTHING
    assert setup.status("/bad") == (500 if setup.bad.protocol == "ProtoBuf:1" else 200)
    assert setup.status("/good") == 200


def test_many_failures_leave_no_resources_open(setup):
    def descriptors() -> int:
        return len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))

    def fail_in_all_ways() -> None:
        for garbage in GARBAGE.values():
            setup.bad.events = garbage
            assert setup.status("/bad") == 500

    fail_in_all_ways()
    before = descriptors()
    for _ in range(ROUNDS):
        fail_in_all_ways()
    assert descriptors() <= before + 4
    assert setup.status("/good") == 200
    log = setup.gateway.log.read_text("utf-8", "replace")
    assert "Traceback" not in log
