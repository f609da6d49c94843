"""MsgPack:1: every value arrives as it was sent; received bytes are a message or are refused."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kong_pdk.wire.msgpack_codec import (
    Message,
    Messages,
    Notification,
    Request,
    Response,
    encode_notification,
    encode_request,
    encode_response,
)
from kong_pdk.wire.text import encode
from kong_pdk.wire.wire_errors import WireError
from unit.fuzz.strategies import damaged, msgpack_values, pieces, raw_text

INPUTS = "messages of MessagePack-RPC"

MIB = 2**20

ids = st.integers(-(2**31), 2**32 - 1)
values = msgpack_values(raw_text)
messages = st.one_of(
    st.builds(Request, ids, raw_text, st.lists(values, max_size=3)),
    st.builds(Response, ids, values, values),
    st.builds(Notification, raw_text, values),
)


def packed(message: Message) -> bytes:
    if isinstance(message, Request):
        return encode_request(message.id, message.method, message.args)
    if isinstance(message, Response):
        return encode_response(message.id, message.error, message.result)
    return encode_notification(message.label, message.args)


def read(data: bytes) -> list[Message]:
    """Decode bytes; bytes that are not a message must be refused as such."""
    try:
        return Messages().feed(data)
    except WireError:
        return []


def as_raw(value: Any) -> Any:
    """Give a value as a reader that only knows bytes decodes it."""
    if isinstance(value, str):
        return encode(value)
    if isinstance(value, list):
        return [as_raw(item) for item in value]
    if isinstance(value, dict):
        return {as_raw(key): as_raw(item) for key, item in value.items()}
    return value


@given(st.lists(messages, min_size=1, max_size=4), st.data())
def test_messages_survive_the_wire_in_any_pieces(sent, data):
    receiver = Messages()
    stream = b"".join(packed(message) for message in sent)
    assert [message for piece in data.draw(pieces(stream)) for message in receiver.feed(piece)] == sent


@given(values)
def test_strings_are_on_the_wire_as_their_bytes(value):
    read_by_another = msgpack.unpackb(encode_response(1, None, value), raw=True, strict_map_key=False)
    assert read_by_another == [1, 1, None, as_raw(value)]


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_raw_bytes_in_strings_are_kept_in_text(strings):
    by_another = msgpack.packb([0, 1, "m", strings], use_bin_type=False)
    (request,) = Messages().feed(by_another)
    assert isinstance(request, Request)
    assert [encode(text) for text in request.args] == strings
    sent_on = encode_request(request.id, request.method, request.args)
    assert msgpack.unpackb(sent_on, raw=True) == [0, 1, b"m", strings]


@given(messages, st.data())
def test_the_rest_of_a_message_is_waited_for(message, data):
    whole = packed(message)
    cut = data.draw(st.integers(0, len(whole) - 1))
    receiver = Messages()
    assert receiver.feed(whole[:cut]) == []
    assert receiver.feed(whole[cut:]) == [message]


@given(st.binary(max_size=400))
def test_any_bytes_are_messages_or_refused(garbage):
    read(garbage)


@given(messages, st.data())
def test_damaged_messages_are_messages_or_refused(message, data):
    read(data.draw(damaged(packed(message))))


@given(msgpack_values(raw_text), st.data())
def test_any_value_that_is_not_a_message_is_refused(value, data):
    packed_value = msgpack.packb(value, unicode_errors="surrogateescape")
    (found,) = read(packed_value) or [None]
    assert found is None or isinstance(value, list)


ANNOUNCED = {
    "array": b"\xdd\x0f\xff\xff\xff",
    "map": b"\xdf\x0f\xff\xff\xff",
    "string": b"\xdb\x0f\xff\xff\xff",
    "bytes": b"\xc6\x0f\xff\xff\xff",
    "extension": b"\xc9\x0f\xff\xff\xff\x01",
}


@pytest.mark.parametrize("kind", ANNOUNCED)
def test_an_announced_length_allocates_no_memory(kind):
    tracemalloc.start()
    try:
        assert read(b"\x94\x00\x01\xa1m" + ANNOUNCED[kind]) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MIB


@pytest.mark.parametrize(
    "opening", [b"\x91", b"\x81\x01", b"\xdc\xff\xff", b"\xdd\x00\x00\xff\xff", b"\xdd\x0f\xff\xff\xff"]
)
def test_endless_nesting_is_refused(opening):
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            Messages().feed(opening * 200_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 256 * MIB
