"""The replay tells a correct plugin server from a wrong one, in cases that were not recorded."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conformance.frames import NOTHING, PdkCall, Sent, Step
from conformance.recordings import Case, Recording, recordings
from conformance.replay import REPLAYS, Difference, Servers, servers_of, with_id, with_instance
from kong_pdk.wire import msgpack_codec, protobuf_codec
from kong_pdk.wire.calls import CloseInstance, HandleEvent, StartInstance
from kong_pdk.wire.pdk_functions import METHODS
from kong_pdk.wire.pdk_values.protobuf_arguments import encode_arguments
from kong_pdk.wire.pdk_values.protobuf_results import encode_result
from msgpack import unpackb

BOTH = ["MsgPack:1", "ProtoBuf:1"]
PATH = ("kong.request.get_path", [], "/strip")
LATIN = b"caf\xe9".decode("utf-8", "surrogateescape")
IDS = itertools.count(1)

Written = tuple[str, list[Any], Any]
"""A call: method, arguments, and Kong's value; NOTHING where Kong refuses it."""


def written_case(protocol: str, phase: str, made: Sequence[Written], results: Sequence[Any], body: bytes = b"") -> Case:
    """A request in which a handler makes calls. Over MsgPack:1 the steps come on two connections in turn.

    :param results: the values of the answered calls, as the recording server would note them.
    """
    id = next(IDS)
    orders = {phase: [[method, args] for method, args, _ in made]}
    start, event = StartInstance("probe", b'{"__seq__": 1}'), HandleEvent(1, phase)
    calls = [("kong.request.get_header", ["x-probe"], json.dumps({**orders, "case": id})), *made]
    if protocol == "MsgPack:1":
        argument = {"InstanceId": 1, "EventName": phase}
        raw_event = msgpack_codec.encode_request(1, "plugin.HandleEvent", [argument])
        pdk_calls = [
            PdkCall(method, args, _step(method, value, number % 2))
            for number, (method, args, value) in enumerate(calls)
        ]
    else:
        raw_event = protobuf_codec.encode_call(2, event)
        pdk_calls = [
            PdkCall(
                method,
                encode_arguments(METHODS[method], args),
                value if value is NOTHING else encode_result(METHODS[method], value),
            )
            for method, args, value in calls
        ]
    headers = [["host", "h.test"], ["x-empty", ""]]
    content = {
        "id": id,
        "request": {"method": "POST", "path": "/strip?a=1&flag", "headers": headers, "body_hex": body.hex()},
        "response": {"status": 200, "headers": headers, "body_hex": ""},
        "calls": orders,
        "results": [
            {"phase": phase, "method": method, "value": value}
            for (method, _, _), value in zip(made, results, strict=False)
        ],
    }
    sent = [Sent(1, REPLAYS[protocol].start_request(start), start, 1), Sent(1, raw_event, event, 1, pdk_calls)]
    return Case(Recording(Path(f"written-{protocol[:-2].lower()}.jsonl"), protocol), content, sent)


def _step(method: str, value: Any, conn: int) -> Any:
    data = NOTHING if value is None else value
    return NOTHING if value is NOTHING else Step(msgpack_codec.step_method(method), data, conn)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    yield from servers_of("threads", tmp_path_factory.mktemp("server"))


@pytest.fixture
def play(servers: Servers) -> Any:
    return lambda case: servers.replay(case).play(case)


@pytest.mark.parametrize("protocol", BOTH)
@pytest.mark.parametrize(
    ("made", "results"),
    [
        pytest.param([PATH], ["/strip"], id="a text"),
        pytest.param([("kong.request.get_port", [], 8300), PATH], [8300, "/strip"], id="two calls"),
        pytest.param([("kong.request.get_header", ["x"], LATIN)], [{"$bytes": "636166e9"}], id="not UTF-8"),
        pytest.param([("kong.response.set_header", ["x", "y"], None), PATH], [None, "/strip"], id="a void call"),
        pytest.param([("kong.request.get_query", [0], NOTHING)], [], id="Kong refuses an argument"),
        pytest.param([("kong.client.get_protocol", [], NOTHING)], [], id="Kong refuses the phase"),
    ],
)
def test_correct_calls(protocol: str, made: list[Written], results: list[Any], play: Any) -> None:
    """Correct calls and values pass."""
    play(written_case(protocol, "rewrite", made, results))


HEADER = ("kong.request.get_header", ["x"], "1")
OTHER_HEADER = ("kong.request.get_header", ["y"], "1")
METHOD = ("kong.request.get_method", [], "GET")


@pytest.mark.parametrize("protocol", BOTH)
@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([PATH, METHOD], r"get_method\(\) was called, no call was recorded"),
        ([METHOD], r"get_method\(\) was called, kong.request.get_path\(\) was recorded"),
        ([], r"the handler ended, kong.request.get_path\(\) was recorded"),
    ],
)
def test_wrong_calls(protocol: str, given: list[Written], why: str, play: Any) -> None:
    """An additional, a different and a missing call are reported."""
    with pytest.raises(Difference, match=why):
        play(_with_orders(written_case(protocol, "rewrite", [PATH], ["/strip"]), given))


@pytest.mark.parametrize("protocol", BOTH)
def test_wrong_argument(protocol: str, play: Any) -> None:
    """A different argument is reported."""
    with pytest.raises(Difference, match="'y'"):
        play(_with_orders(written_case(protocol, "rewrite", [HEADER], ["1"]), [OTHER_HEADER]))


@pytest.mark.parametrize("protocol", BOTH)
@pytest.mark.parametrize("value", ["2", 1, None])
def test_wrong_value(protocol: str, value: Any, play: Any) -> None:
    """A different value is reported, also if only its type differs."""
    with pytest.raises(Difference, match="but the recorded one"):
        play(written_case(protocol, "rewrite", [HEADER], [value]))


def _with_orders(case: Case, given: list[Written]) -> Case:
    """Give a case whose orders for our probe differ from the recorded ones."""
    other = written_case(case.protocol, "rewrite", given, [])
    case.events[0].pdk_calls[0].answer = other.events[0].pdk_calls[0].answer
    return case


@pytest.mark.parametrize("args", [["flag"], ["a"], ["none"]])
def test_query_arguments_by_stock_messages(args: list[Any], play: Any) -> None:
    """Kong raises on an argument without a value and the recorded handler stopped; ours continues."""
    answer = {"flag": NOTHING, "a": "1", "none": None}[args[0]]
    results = [] if answer is NOTHING else [answer, "/strip"]
    play(written_case("ProtoBuf:1", "access", [("kong.request.get_query_arg", args, answer), PATH], results))


@pytest.mark.parametrize("name", ["x-empty", "x-none"])
def test_empty_headers_in_log_by_stock_messages(name: str, play: Any) -> None:
    """No message tells empty headers from absent ones: our server searches all headers."""
    status = ("kong.response.get_status", [], 200)
    play(written_case("ProtoBuf:1", "log", [("kong.response.get_header", [name], None), status], [None, 200]))


def test_large_body_over_msgpack(play: Any) -> None:
    """Kong would raise without an answer: our server asks first, and its handler continues."""
    made = [("kong.request.get_raw_body", [], NOTHING), PATH]
    play(written_case("MsgPack:1", "access", made, [], body=b"x" * 9000))


def test_steps_on_other_connections(play: Any) -> None:
    """Kong takes a connection from its pool for every step."""
    case = written_case("MsgPack:1", "access", [PATH, PATH, PATH], ["/strip"] * 3)
    answers = [call.answer for call in case.events[0].pdk_calls]
    assert len({answer.conn for answer in answers if isinstance(answer, Step)}) == 2
    play(case)


ID = 80_000


def _of(protocol: str) -> list[Recording]:
    return [recording for recording in recordings() if recording.protocol == protocol]


@pytest.mark.parametrize("recording", _of("ProtoBuf:1"), ids=lambda recording: recording.name)
def test_protobuf_calls_keep_every_byte(recording: Recording) -> None:
    """With the recorded ids, the bytes are as recorded, with the fields in the same order."""
    for sent in (sent for case in recording.cases for sent in case.sent):
        if isinstance(sent.call, HandleEvent | CloseInstance):
            assert with_instance(sent.raw, sent.call.instance_id) == sent.raw
            other = with_instance(sent.raw, ID)
            assert with_instance(other, sent.call.instance_id) == sent.raw
            sequence, call = protobuf_codec.decode_call(other)
            assert (sequence, call) == (protobuf_codec.decode_call(sent.raw)[0], replace(sent.call, instance_id=ID))


@pytest.mark.parametrize("recording", _of("MsgPack:1"), ids=lambda recording: recording.name)
def test_msgpack_requests_keep_every_byte(recording: Recording) -> None:
    """Every byte but the id's is as recorded."""
    for event in (event for case in recording.cases for event in case.events):
        steps = [(call.answer.raw, "EventId") for call in event.pdk_calls if isinstance(call.answer, Step)]
        for raw, key in [(event.raw, "InstanceId"), *steps]:
            recorded = unpackb(raw, unicode_errors="surrogateescape", strict_map_key=False)
            changed = unpackb(with_id(raw, key, ID), unicode_errors="surrogateescape", strict_map_key=False)
            assert changed == [*recorded[:3], [{**recorded[3][0], key: ID}]]
            assert with_id(with_id(raw, key, ID), key, recorded[3][0][key]) == raw
