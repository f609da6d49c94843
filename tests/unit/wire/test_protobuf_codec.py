"""Frames, calls and returns of ProtoBuf:1."""

from __future__ import annotations

import sys
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kong_pdk.protocol import PHASES
from kong_pdk.wire import calls
from kong_pdk.wire.protobuf_codec import (
    MAX_FRAME,
    NO_MORE_CALLS,
    EventCalls,
    Frames,
    decode_call,
    decode_return,
    encode_call,
    encode_return,
    event_end,
    frame,
    frame_size,
)
from kong_pdk.wire.wire_errors import WireError

CALLS = [
    calls.GetPluginNames(),
    calls.GetPluginInfo("py-hello"),
    calls.StartInstance("py-hello", b'{"message":"h\xff"}'),
    calls.GetInstanceStatus(7),
    calls.CloseInstance(7),
    calls.HandleEvent(2**31 - 1, "access"),
    calls.HandleEvent(0, ""),
]
ANSWERS = [
    None,
    calls.PluginNames(("a", "b")),
    calls.PluginNames(()),
    calls.PluginInfo("a", ("access", "log"), "1.2.3", -5, "{}", 1, 2),
    calls.InstanceStatus("a", 5, {"n": None, "t": True, "f": False, "i": 3, "d": 0.5, "s": "é", "l": [1]}, 9),
    calls.InstanceStatus("a", 5),
]
MANY = settings(max_examples=300, deadline=None, database=None, derandomize=True)
SEQUENCES = [0, 1, 3, 127, 128, 300, 2**14, 2**31 - 1, 2**31, 2**40, 2**63 - 1]
sequences = st.one_of(st.integers(0, 2**63 - 1), st.sampled_from(SEQUENCES))
instances = st.integers(-(2**31), 2**31 - 1)
phases = st.one_of(st.sampled_from(PHASES), st.text(st.characters(exclude_categories=["Cs"]), max_size=200))


def both_orders(sequence: int, call: calls.Call) -> tuple[bytes, bytes]:
    """A call with the sequence number first, and with the command first."""
    number = encode_return(sequence, None)
    sent = encode_call(sequence, call)
    command = sent.removeprefix(number)
    assert number + command == sent
    return number + command, command + number


@pytest.mark.parametrize("call", CALLS)
def test_a_call_survives_the_wire(call):
    assert decode_call(encode_call(12, call)) == (12, call)


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_survives_the_wire(answer):
    assert decode_return(encode_return(2**40, answer)) == (2**40, answer)


def test_the_bytes_are_those_of_a_real_kong():
    """Two frames of the recordings: HandleEvent(1, rewrite) as Kong wrote it, and the return that it understood."""
    assert decode_call(bytes.fromhex("0803a2020b1207726577726974650801")) == (3, calls.HandleEvent(1, "rewrite"))
    assert encode_return(3, None) == bytes.fromhex("0803")
    assert encode_return(2, calls.InstanceStatus("probe", 1)) == bytes.fromhex("08028a02090a0570726f62651001")


@pytest.mark.parametrize("payload", [b"\xff\xff\xff", b"", b"\x08\x03", b"\x0a\x05"])
def test_bytes_that_are_not_a_call_are_refused(payload):
    with pytest.raises(WireError):
        decode_call(payload)


def test_frames_in_any_pieces_come_out_unchanged():
    payloads = [b"", b"a", b"b" * 300, b"", b"c" * 70000]
    stream = b"".join(frame(payload) for payload in payloads)
    for size in (1, 3, 4, 5, 4096, len(stream)):
        frames = Frames()
        found = [one for at in range(0, len(stream), size) for one in frames.feed(stream[at : at + size])]
        assert found == payloads
        assert not frames.partial


def test_an_incomplete_frame_is_kept():
    frames = Frames()
    assert frames.feed(frame(b"abc")[:-1]) == []
    assert frames.partial


def test_an_invalid_length_is_refused():
    with pytest.raises(WireError, match=str(MAX_FRAME)):
        Frames().feed(b"\xff\xff\xff\xff")


@pytest.mark.parametrize("sequence", SEQUENCES)
@pytest.mark.parametrize("phase", [*PHASES, "", "x" * 115, "x" * 130, "x" * 20_000])
def test_an_event_is_decoded_whatever_the_order_of_its_fields(sequence, phase):
    event = calls.HandleEvent(7, phase)
    for payload in both_orders(sequence, event):
        decoder = EventCalls()
        for _ in range(3):  # new, then known
            assert decoder.decode(payload) == (encode_return(sequence, None), event)


def test_an_event_that_is_known_is_told_from_others():
    """By all of its bytes but the sequence number."""
    decoder = EventCalls()
    events = [calls.HandleEvent(instance, phase) for instance in (0, 1, 128, -1) for phase in (*PHASES, "", "logs")]
    for sequence in (0, 5, 500):
        for event in events:
            for payload in both_orders(sequence, event):
                assert decoder.decode(payload) == (encode_return(sequence, None), event)


@pytest.mark.parametrize("field", [encode_return(9, None), encode_call(0, calls.HandleEvent(8, "log"))])
def test_of_several_fields_of_a_kind_the_last_one_counts(field):
    """Also where the decoder has seen the rest before."""
    first, second = (encode_call(number, calls.HandleEvent(7, "access")) + field for number in (9, 10))
    decoder = EventCalls()
    for payload in (first, second, first):
        number, call = decode_call(payload)
        assert decoder.decode(payload) == (encode_return(number, None), call)


@MANY
@given(given_calls=st.lists(st.tuples(sequences, instances, phases, st.booleans()), min_size=1, max_size=6))
def test_any_events_are_decoded_as_one_by_one(given_calls):
    decoder = EventCalls()
    for sequence, instance, phase, command_first in given_calls * 2:
        payload = both_orders(sequence, calls.HandleEvent(instance, phase))[command_first]
        number, call = decode_call(payload)
        assert decoder.decode(payload) == (encode_return(number, None), call)


@MANY
@given(
    sequence=sequences,
    call=st.builds(calls.HandleEvent, instances, phases),
    cut=st.tuples(st.integers(0, 250), st.integers(0, 4)),
    put=st.binary(max_size=4),
)
def test_damaged_events_are_decoded_as_one_by_one(sequence, call, cut, put):
    """Also by a decoder that knows the whole ones."""
    decoder = EventCalls()
    payloads = both_orders(sequence, call)
    for payload in payloads:
        decoder.decode(payload)
    for payload in payloads:
        start, length = cut
        damaged = payload[:start] + put + payload[start + length :]
        for _ in range(2):
            assert_like_decode_call(decoder, damaged)


@MANY
@given(payload=st.binary(max_size=60))
def test_any_bytes_are_decoded_as_one_by_one(payload):
    decoder = EventCalls()
    decoder.decode(encode_call(3, calls.HandleEvent(1, "rewrite")))
    for start in (b"", b"\x08", b"\x08\x03\xa2\x02", b"\xa2\x02"):
        for _ in range(2):
            assert_like_decode_call(decoder, start + payload)


def assert_like_decode_call(decoder: EventCalls, payload: bytes) -> None:
    """A decoder gives what decode_call gives: the event, None for another call, or WireError."""
    expected: object = WireError
    with suppress(WireError):
        number, call = decode_call(payload)
        expected = (encode_return(number, None), call) if isinstance(call, calls.HandleEvent) else None
    found: object = WireError
    with suppress(WireError):
        found = decoder.decode(payload)
    if isinstance(found, tuple) and isinstance(expected, tuple):
        # A field of a sequence number may be longer than it need be; it is sent back as it came.
        assert decode_return(found[0])[0] == decode_return(expected[0])[0]
        assert found[1] == expected[1]
    else:
        assert found == expected


@pytest.mark.parametrize("call", [call for call in CALLS if not isinstance(call, calls.HandleEvent)])
def test_a_call_that_is_no_event_is_none(call):
    decoder = EventCalls()
    for payload in both_orders(3, call):
        assert decoder.decode(payload) is None


@pytest.mark.parametrize(
    "payload", [b"\xff\xff\xff", b"", b"\x08", b"\x08\x03", b"\xa2\x02", b"\xa2\x02\x05", b"\x08\x83"]
)
def test_bytes_that_are_no_event_are_refused(payload):
    decoder = EventCalls()
    decoder.decode(encode_call(3, calls.HandleEvent(1, "rewrite")))
    for _ in range(2):
        with pytest.raises(WireError):
            decoder.decode(payload)


def test_so_many_phases_are_not_kept():
    """A peer can make them up."""
    decoder = EventCalls()
    for number in range(10_000):
        event = calls.HandleEvent(number, f"phase {number}")
        assert decoder.decode(encode_call(number, event)) == (encode_return(number, None), event)
    assert len(decoder._known) < 5_000


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_the_end_of_an_event_is_no_name_of_a_method_and_its_return(sequence):
    ended = Frames().feed(event_end(encode_return(sequence, None)))
    assert ended == [b"", encode_return(sequence, None)]
    assert decode_return(ended[1]) == (sequence, None)


def test_the_end_of_an_event_without_a_number_is_a_whole_frame_too():
    """The number 0 is not sent."""
    assert event_end(b"") == NO_MORE_CALLS + bytes(4)


@MANY
@given(payload=st.binary(max_size=300), more=st.binary(max_size=9), cuts=st.lists(st.integers(1, 5), max_size=4))
def test_the_size_of_a_frame_is_known_from_its_first_pieces(payload, more, cuts):
    stream = frame(payload) + more
    pieces = []
    for cut in cuts:
        pieces, stream = [*pieces, stream[:cut]], stream[cut:]
    pieces.append(stream)
    assert frame_size(pieces) == 4 + len(payload)


@pytest.mark.parametrize("received", [[b""], [b"\x05"], [b"\x05\x00\x00"], [b"\x05", b"\x00", b"\x00"]])
def test_the_size_of_a_frame_is_that_of_the_length_as_long_as_it_is_unknown(received):
    assert frame_size(received) == 4


@pytest.mark.parametrize("received", [[b"\xff\xff\xff\xff"], [b"\xff", b"\xff\xff", b"\xffx"]])
def test_the_size_of_a_frame_is_limited(received):
    with pytest.raises(WireError, match=str(MAX_FRAME)):
        frame_size(received)


def test_the_largest_frame_is_no_error():
    assert frame_size([MAX_FRAME.to_bytes(4, sys.byteorder)]) == 4 + MAX_FRAME
