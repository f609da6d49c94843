"""A plugin server that sends garbage to the embedded gateway: the request ends as in Kong, and the gateway stays up."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack as plain_msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kong_pdk.gateway.exchange import Body, Exit, Refused
from kong_pdk.gateway.pdk.dispatch import FUNCTIONS
from kong_pdk.gateway.pdk.lua_values import from_msgpack, to_msgpack, to_protobuf
from kong_pdk.gateway.servers import failures
from kong_pdk.gateway.servers.failures import PluginFailed
from kong_pdk.gateway.servers.msgpack_client import MsgPackClient
from kong_pdk.gateway.servers.pool import Pool
from kong_pdk.gateway.servers.protobuf_client import ProtoBufClient
from kong_pdk.wire import protobuf_codec
from kong_pdk.wire.calls import HandleEvent, InstanceStatus
from kong_pdk.wire.msgpack_codec import encode_response
from kong_pdk.wire.pdk_functions import METHODS, functions
from kong_pdk.wire.pdk_values.protobuf_results import encode_result
from unit.fuzz.strategies import damaged, json_values, msgpack_values, raw_text, unicode_text
from unit.gateway.pdk.exchanges import Scene, scene
from unit.gateway.servers.scripted_servers import MsgPackServer, ProtoBufServer, Streams, returned, serving

INPUTS = "damaged answers of a plugin server"

FEW = settings(max_examples=max(10, settings.default.max_examples // 4))
EXPECTED = (PluginFailed, Refused, Exit)
"""What the gateway makes a 500, an answer, or a line of the log of."""


@pytest.fixture(autouse=True)
def few_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "MAX_ATTEMPTS", 2)


def handle(folder: Path, server: Streams, kind: Any, phase: str) -> None:
    """Run an event against a server, and another one after any damage to the connections."""

    async def inner() -> None:
        pool = Pool(folder / "s", timeout=0.5)
        client = kind("probe", pool)
        async with serving(folder / "s", server):
            for _ in range(2):
                given = scene()
                with suppress(*EXPECTED):
                    protocol = "ProtoBuf:1" if kind is ProtoBufClient else "MsgPack:1"
                    await client.handle(given.event(phase, protocol))
                for end in given.exchange.at_end:
                    end()
            pool.close()
        (folder / "s").unlink()

    asyncio.run(inner())


def plain_struct(key: str, value: Any) -> bytes:
    return encode_result(METHODS["kong.request.get_headers"], {key: value})


arguments = st.lists(msgpack_values(raw_text, 6), max_size=4)
names = st.one_of(st.sampled_from(sorted(METHODS)), raw_text)
payloads = st.one_of(
    st.binary(max_size=60),
    st.builds(plain_struct, raw_text, json_values(raw_text, 6)),
)
phases = st.sampled_from(["rewrite", "access", "response", "log"])


@FEW
@given(name=names, payload=payloads, phase=phases, rest=st.binary(max_size=30))
def test_any_call_over_protobuf(tmp_path_factory, name, payload, phase, rest):
    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(
            protobuf_codec.frame(name.encode("utf-8", "surrogateescape")) + protobuf_codec.frame(payload) + rest
        )
        await reader.read(1024)
        return not rest

    handle(tmp_path_factory.getbasetemp(), ProtoBufServer(ask), ProtoBufClient, phase)


@FEW
@given(data=st.data(), phase=phases)
def test_damaged_answers_over_protobuf(tmp_path_factory, data, phase):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = protobuf_codec.Frames()
        while received := await reader.read(65536):
            for payload in frames.feed(received):
                sequence, call = protobuf_codec.decode_call(payload)
                event = isinstance(call, HandleEvent)
                whole = returned(sequence, None if event else InstanceStatus("probe", 1))
                whole = protobuf_codec.frame(b"") + whole if event else whole
                writer.write(data.draw(damaged(whole)) if data.draw(st.booleans()) else whole)
                if data.draw(st.booleans()):
                    return

    handle(tmp_path_factory.getbasetemp(), answer, ProtoBufClient, phase)


@FEW
@given(
    name=st.one_of(st.sampled_from(functions()), raw_text), args=arguments, phase=phases, id=msgpack_values(raw_text, 3)
)
def test_any_call_over_msgpack(tmp_path_factory, name, args, phase, id):
    server = MsgPackServer(
        StartInstance=(None, {"Id": 7}),
        HandleEvent=(None, {"Data": {"Method": name, "Args": args}, "EventId": id}),
        CloseInstance=(None, None),
    )
    done = {
        name: (None, {"Data": "ret"})
        for name in ("", "Credential", "Consumer", "MemoryStats", "Route", "Service", "MultiMap", "Error")
    }
    server.answers.update({f"Step{name}": answer for name, answer in done.items()})
    handle(tmp_path_factory.getbasetemp(), server, MsgPackClient, phase)


@FEW
@given(
    started=msgpack_values(raw_text, 4),
    error=msgpack_values(raw_text, 3),
    event=msgpack_values(raw_text, 6),
    phase=phases,
)
def test_any_answer_over_msgpack(tmp_path_factory, started, error, event, phase):
    server = MsgPackServer(StartInstance=(None, started), HandleEvent=(error, event), CloseInstance=(None, None))
    handle(tmp_path_factory.getbasetemp(), server, MsgPackClient, phase)
    server = MsgPackServer(StartInstance=(None, {"Id": 1}), HandleEvent=(error, event), CloseInstance=(None, None))
    handle(tmp_path_factory.getbasetemp(), server, MsgPackClient, phase)


@FEW
@given(data=st.data(), phase=phases)
def test_damaged_answers_over_msgpack(tmp_path_factory, data, phase):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while received := await reader.read(65536):
            _, id, method, _ = plain_msgpack.unpackb(received, raw=False, unicode_errors="surrogateescape")
            result = {"Id": 1} if method == "plugin.StartInstance" else {"Data": "ret", "EventId": 1}
            whole = plain_msgpack.packb([1, id, None, result])
            writer.write(data.draw(damaged(whole)) if data.draw(st.booleans()) else whole)
            if data.draw(st.booleans()):
                return

    handle(tmp_path_factory.getbasetemp(), answer, MsgPackClient, phase)


words = st.sampled_from(
    ["x-a", "host", "content-type", "application/json", "a", "2", "8000", "/b?c", "\r\n", "", "{vault://env/a}"]
)
likely = st.lists(
    st.one_of(
        words,
        raw_text,
        st.integers(-2, 700),
        st.booleans(),
        st.floats(),
        st.dictionaries(
            st.one_of(words, raw_text), st.one_of(words, st.lists(words, max_size=2), st.integers()), max_size=3
        ),
    ),
    max_size=4,
)
"""Arguments of the kinds that functions take."""

bodies = st.one_of(
    st.binary(max_size=60),
    json_values(unicode_text).map(lambda value: json.dumps(value).encode()),
    st.integers().map(lambda number: b'{"a": %d%s}' % (number, b"0" * 40)),
)


def asked(type: bytes, query: bytes, content: bytes) -> Scene:
    return scene(headers=[(b"content-type", type), (b"x-a", b"\xff")], raw_query=query, body=Body(content))


types = [b"application/json", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=a", b"\xff"]


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@settings(max_examples=settings.default.max_examples // 5)
@given(
    request=st.builds(asked, st.sampled_from(types), st.binary(max_size=20), bodies),
    args=st.one_of(arguments, likely),
    phase=phases,
)
def test_any_call_of_any_request(name, request, args, phase):
    """Kong's Lua raises on invalid arguments, so they are refused; every result can be sent. No other error occurs."""
    with suppress(*EXPECTED):
        value = request.call(name, *from_msgpack(args), phase=phase)
        encode_response(1, None, to_msgpack(name, value))
        if name in METHODS:
            with suppress(TypeError, ValueError):  # A value that does not fit the message is refused.
                to_protobuf(METHODS[name], value)
