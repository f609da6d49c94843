"""Frames, calls and returns of ProtoBuf:1."""

from __future__ import annotations

import pytest
from kong_pdk.wire import calls
from kong_pdk.wire.protobuf_codec import (
    MAX_FRAME,
    Frames,
    decode_call,
    decode_return,
    encode_call,
    encode_return,
    frame,
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
