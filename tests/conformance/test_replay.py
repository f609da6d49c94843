"""The replay tells a correct plugin server from a wrong one, in cases that were not recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from conformance import written_cases
from conformance.frames import NOTHING, Step
from conformance.kong_answers import Difference
from conformance.recordings import Case, Recording, recordings
from conformance.replay import with_id, with_instance
from conformance.replayed_servers import Servers, servers_of
from kong_pdk.wire import protobuf_codec
from kong_pdk.wire.calls import CloseInstance, HandleEvent
from msgpack import unpackb

BOTH = ["MsgPack:1", "ProtoBuf:1"]
PATH = ("kong.request.get_path", [], "/strip")
LATIN = b"caf\xe9".decode("utf-8", "surrogateescape")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    yield from servers_of("threads", tmp_path_factory.mktemp("server"))


@pytest.fixture
def play(servers: Servers) -> Any:
    """Play a case with a replay of its own."""

    def play(case: Case) -> None:
        replay = servers.new_replay(case)
        try:
            replay.play(case)
        finally:
            replay.close()

    return play


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
def test_correct_calls(protocol: str, made: list[written_cases.Written], results: list[Any], play: Any) -> None:
    """Correct calls and values pass."""
    play(written_cases.case(protocol, "rewrite", made, results))


HEADER = ("kong.request.get_header", ["x"], "1")
OTHER_HEADER = ("kong.request.get_header", ["y"], "1")
METHOD = ("kong.request.get_method", [], "GET")


@pytest.mark.parametrize("protocol", BOTH)
@pytest.mark.parametrize(
    ("calls", "why"),
    [
        ([PATH, METHOD], r"get_method\(\) was called, no call was recorded"),
        ([METHOD], r"get_method\(\) was called, kong.request.get_path\(\) was recorded"),
        ([], r"the handler ended, kong.request.get_path\(\) was recorded"),
    ],
)
def test_wrong_calls(protocol: str, calls: list[written_cases.Written], why: str, play: Any) -> None:
    """An additional, a different and a missing call are reported."""
    with pytest.raises(Difference, match=why):
        play(_with_orders(written_cases.case(protocol, "rewrite", [PATH], ["/strip"]), calls))


@pytest.mark.parametrize("protocol", BOTH)
def test_wrong_argument(protocol: str, play: Any) -> None:
    """A different argument is reported."""
    with pytest.raises(Difference, match="'y'"):
        play(_with_orders(written_cases.case(protocol, "rewrite", [HEADER], ["1"]), [OTHER_HEADER]))


@pytest.mark.parametrize("protocol", BOTH)
@pytest.mark.parametrize("value", ["2", 1, None])
def test_wrong_value(protocol: str, value: Any, play: Any) -> None:
    """A different value is reported, also if only its type differs."""
    with pytest.raises(Difference, match="but the recorded one"):
        play(written_cases.case(protocol, "rewrite", [HEADER], [value]))


def _with_orders(case: Case, calls: list[written_cases.Written]) -> Case:
    """Give a case whose orders for our probe differ from the recorded ones."""
    other = written_cases.case(case.protocol, "rewrite", calls, [])
    case.events[0].pdk_calls[0].answer = other.events[0].pdk_calls[0].answer
    return case


@pytest.mark.parametrize("args", [["flag"], ["a"], ["none"]])
def test_query_arguments_by_stock_messages(args: list[Any], play: Any) -> None:
    """Kong raises on an argument without a value and the recorded handler stopped; ours continues."""
    answer = {"flag": NOTHING, "a": "1", "none": None}[args[0]]
    results = [] if answer is NOTHING else [answer, "/strip"]
    play(written_cases.case("ProtoBuf:1", "access", [("kong.request.get_query_arg", args, answer), PATH], results))


@pytest.mark.parametrize("name", ["x-empty", "x-none"])
def test_empty_headers_in_log_by_stock_messages(name: str, play: Any) -> None:
    """No message tells empty headers from absent ones: our server searches all headers."""
    status = ("kong.response.get_status", [], 200)
    play(written_cases.case("ProtoBuf:1", "log", [("kong.response.get_header", [name], None), status], [None, 200]))


def test_large_body_over_msgpack(play: Any) -> None:
    """Kong would raise without an answer: our server asks first, and its handler continues."""
    made = [("kong.request.get_raw_body", [], NOTHING), PATH]
    play(written_cases.case("MsgPack:1", "access", made, [], body=b"x" * 9000))


def test_steps_on_other_connections(play: Any) -> None:
    """Kong takes a connection from its pool for every step."""
    case = written_cases.case("MsgPack:1", "access", [PATH, PATH, PATH], ["/strip"] * 3)
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
