"""A plugin gets the same values over MsgPack:1, over ProtoBuf:1, and over ProtoBuf:1 with the extended interface.

End to end: the embedded gateway, our plugin server, and a handler that makes every call in every phase in which it
works. The values and types that it gets are compared. MsgPack:1, which has messages for everything, is the
reference; two tables list what the other protocols cannot express or carry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from conformance.comparable import Comparable, shape
from conformance.same_values import (
    MSGPACK,
    PROTOBUF,
    PROTOBUF_EXTENDED,
    SCENARIOS,
    STOCK_FUNCTIONS,
    WAYS,
    Call,
    Kong,
    Outcome,
    running,
)
from kong_pdk.wire.interface import EXTENDED
from local_servers import http_service
from running_gateway import recorded_upstream

# Values that the methods of stock ProtoBuf:1 lack, and why; the other values must be the same. In `log` only these
# methods work, with our extension too: Kong has copies there for the functions by their own names.
LESS_OVER_STOCK = {
    "kong.client.get_consumer": "the message Consumer lacks some fields of a consumer",
    "kong.client.get_credential": "the message AuthenticatedCredential has only an id and a consumer's id",
    "kong.client.load_consumer": "the message Consumer lacks some fields of a consumer",
    "kong.node.get_memory_stats": "the message MemoryStats lacks some measured values",
    "kong.router.get_route": "the message Route lacks some fields of a route, and cannot hold false or 0",
    "kong.router.get_service": "the message Service lacks some fields of a service, and cannot hold false or 0",
    "kong.request.get_header": "the message String cannot tell an empty header from none",
    "kong.response.get_header": "the message String cannot tell an empty header from none",
    "kong.service.response.get_header": "the message String cannot tell an empty header from none",
}

# In `log` an empty header is searched among all headers.
HEADERS = {function for function in LESS_OVER_STOCK if function.endswith(".get_header")}

# Calls that a protocol cannot carry, and why: they are refused by name before anything is sent.
NOT_CARRIED = {
    "kong.ctx.shared.set": "over ProtoBuf:1 Kong makes nil of False, and a text of None",
    "kong.nginx.set_ctx": "over ProtoBuf:1 Kong makes nil of False, and a text of None",
    "kong.client.authenticate": "over MsgPack:1 Kong loses the arguments after a None",
}

# Scenarios with different responses for the client, and why.
OTHER_ANSWERS = {"exit-0": "exit without a body is nginx's own page over MsgPack:1, and nothing over ProtoBuf:1"}

# Functions of TLS handshakes: no handler of a request may call them.
OF_HANDSHAKES = {
    "kong.client.tls.disable_session_reuse",
    "kong.client.tls.request_client_certificate",
    "kong.client.tls.set_client_verify",
}
LARGE = "large"
ENDS = {"kong.response.exit", "kong.response.error"}
WRITES = ENDS | {method.function for method in EXTENDED if method.function.startswith("kong.service.request.")}

MEASURED = {"x-kong-response-latency", "x-kong-upstream-latency", "x-kong-proxy-latency"}

# Values that differ from gateway to gateway.
OF_THE_GATEWAY = {"kong.cluster.get_id", "kong.node.get_id"}


@pytest.fixture(scope="module")
def kongs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Kong]]:
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("SAME_VALUES_SECRET", "s3cret")
        port = stack.enter_context(http_service(recorded_upstream))
        yield {way: stack.enter_context(running(way, tmp_path_factory.mktemp(way), port)) for way in WAYS}


@pytest.fixture(scope="module")
def outcome(kongs: dict[str, Kong]) -> Callable[[str, str], Outcome]:
    """Give the outcome of a scenario over a protocol, run once."""
    known: dict[tuple[str, str], Outcome] = {}

    def give(way: str, name: str) -> Outcome:
        if (way, name) not in known:
            known[way, name] = kongs[way].run(name)
        return known[way, name]

    return give


def test_every_function_is_called():
    called = {function for scenario in SCENARIOS.values() for function, _ in scenario.calls}
    assert called | OF_HANDSHAKES == {method.function for method in EXTENDED}


@pytest.mark.parametrize("name", SCENARIOS)
def test_all_calls_are_made(outcome, name):
    """Without this test, handlers without results would agree."""
    scenario = SCENARIOS[name]
    got = outcome(MSGPACK, name).got
    if not ENDS & {function for function, _ in scenario.calls}:
        assert {phase: len(calls) for phase, calls in got.items()} == {
            phase: len(calls) for phase, calls in scenario.orders().items()
        }


def together(decisive: set[str]) -> list[tuple[str, str]]:
    """Give the scenarios and the protocols that can be compared: stock ProtoBuf:1 where it has all deciding calls."""
    return [
        (way, name)
        for name, scenario in SCENARIOS.items()
        for way in (PROTOBUF, PROTOBUF_EXTENDED)
        if way == PROTOBUF_EXTENDED or not ({function for function, _ in scenario.calls} & decisive) - STOCK_FUNCTIONS
    ]


@pytest.mark.parametrize(("way", "name"), together(ENDS))
def test_handlers_get_the_same(outcome, kongs, way, name):
    here, there = (Compared(kongs[each], outcome(each, name)) for each in (way, MSGPACK))
    assert set(here.outcome.got) == set(there.outcome.got)
    for phase, calls in SCENARIOS[name].orders().items():
        pairs = zip(calls, here.outcome.got.get(phase, []), there.outcome.got.get(phase, []), strict=False)
        for call, got, expected in pairs:
            if name == LARGE and call[0] == "kong.request.get_raw_body":
                continue  # It has its own test.
            compare(way, call, here.value(call, got), there.value(call, expected), f"{phase}: {call}")


class Compared:
    """An outcome, without values that differ from gateway to gateway."""

    def __init__(self, kong: Kong, outcome: Outcome) -> None:
        self.outcome = outcome
        self._comparable = Comparable({kong.gateway.port: 8000})

    def value(self, call: Call, got: tuple[Any, ...]) -> tuple[Any, ...]:
        function = call[0]
        if got[0] == "raised":
            return got
        if function in OF_THE_GATEWAY:
            return shape(got[1]), got[2]
        return self._comparable.result(function, got[1]), got[2]

    def response(self) -> tuple[Any, ...]:
        outcome = self.outcome
        headers = [pair for pair in outcome.headers if pair[0].lower() not in MEASURED]
        return (outcome.status, self._comparable.headers(headers), self._comparable.body(outcome.body))


def compare(way: str, call: Call, got: tuple[Any, ...], expected: tuple[Any, ...], what: str) -> None:
    function = call[0]
    if way == PROTOBUF and function not in STOCK_FUNCTIONS:
        assert got[:2] == ("raised", "UnknownFunctionError"), what
    elif function in NOT_CARRIED and "raised" in (got[0], expected[0]):
        assert has_none_or_false(call[1]), what
        refused = got if got[0] == "raised" else expected
        assert refused[1] == "ArgumentError" and function in refused[2], what
    elif function in LESS_OVER_STOCK and (way == PROTOBUF or (what.startswith("log: ") and function not in HEADERS)):
        assert_part(got[0], expected[0], what)
    else:
        assert repr(got) == repr(expected), what


def has_none_or_false(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(has_none_or_false, value.values()))
    return value is None or value is False or (isinstance(value, (list, tuple)) and any(map(has_none_or_false, value)))


def assert_part(got: Any, expected: Any, what: str) -> None:
    """Each value of ``got`` is the expected one; values may be missing."""
    if isinstance(expected, dict) and got is not None:
        for name, value in got.items():
            assert_part(value, expected.get(name), f"{what}: {name}")
    elif expected != "" or got is not None:
        assert repr(got) == repr(expected), what


@pytest.mark.parametrize(("way", "name"), together(WRITES))
def test_clients_and_services_get_the_same(outcome, kongs, way, name):
    here, there = (Compared(kongs[each], outcome(each, name)).response() for each in (way, MSGPACK))
    if name in OTHER_ANSWERS:
        assert here[0] == there[0]
        assert (here[-1], there[-1][:6]) == (b"", b"<html>")
    else:
        assert here == there


def test_a_large_body_is_read_from_its_file_or_reported(outcome):
    """Over MsgPack:1 Kong cannot send it; the handler gets an error, and the event goes on."""
    for phase in ("rewrite", "access", "response"):
        for way in (PROTOBUF, PROTOBUF_EXTENDED):
            assert outcome(way, LARGE).got[phase][0] == ("gave", SCENARIOS[LARGE].body, None)
        gave, value, error = outcome(MSGPACK, LARGE).got[phase][0]
        assert (gave, value) == ("gave", None)
        assert "ProtoBuf:1" in error and "KONG_NGINX_HTTP_CLIENT_BODY_BUFFER_SIZE" in error
