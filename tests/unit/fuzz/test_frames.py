"""The frames of ProtoBuf:1, encoded and decoded in pieces of any size."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kong_pdk.wire.protobuf_codec import MAX_FRAME, Frames, frame
from kong_pdk.wire.wire_errors import WireError
from unit.fuzz.strategies import pieces

INPUTS = "frames and pieces of them"

payloads = st.lists(st.binary(max_size=300), max_size=6)


@given(payloads, st.data())
def test_frames_survive_the_wire_in_any_pieces(sent, data):
    frames = Frames()
    stream = b"".join(frame(payload) for payload in sent)
    assert [found for piece in data.draw(pieces(stream)) for found in frames.feed(piece)] == sent
    assert not frames.partial


@given(payloads, st.data())
def test_frames_have_the_protocol_s_form(sent, data):
    """A second reader follows the protocol's description: four bytes, native order, and as many bytes."""
    stream, found = b"".join(frame(payload) for payload in sent), []
    while stream:
        (length,) = struct.unpack("=I", stream[:4])
        found.append(stream[4 : 4 + length])
        stream = stream[4 + length :]
    assert found == sent


@given(st.binary(max_size=300), st.data())
def test_the_rest_of_a_frame_is_waited_for(payload, data):
    whole = frame(payload)
    cut = data.draw(st.integers(0, len(whole) - 1))
    frames = Frames()
    assert frames.feed(whole[:cut]) == []
    assert frames.partial == (cut > 0)
    assert frames.feed(whole[cut:]) == [payload]


@given(st.binary(max_size=400), st.data())
def test_any_bytes_are_frames_or_refused(garbage, data):
    frames, found = Frames(), []
    try:
        for piece in data.draw(pieces(garbage)):
            found += frames.feed(piece)
    except WireError:
        return
    assert b"".join(frame(payload) for payload in found) == garbage[: sum(len(payload) + 4 for payload in found)]


@given(st.integers(MAX_FRAME + 1, 2**32 - 1), st.binary(max_size=20))
def test_an_invalid_length_is_refused_at_once(length, behind):
    with pytest.raises(WireError, match=str(length)):
        Frames().feed(struct.pack("=I", length) + behind)
