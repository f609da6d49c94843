"""Messages of MsgPack:1."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kong_pdk.wire import msgpack_codec
from kong_pdk.wire.msgpack_codec import (
    HANDLER_END,
    Messages,
    Notification,
    Request,
    Response,
    encode_notification,
    encode_output,
    encode_pdk_call,
    encode_request,
    encode_response,
    step_method,
)
from kong_pdk.wire.wire_errors import ArgumentError, WireError

LATIN1 = b"Zo\xeb".decode("utf-8", "surrogateescape")
MESSAGES = [
    (encode_request(1, "plugin.Step", [{"EventId": 1, "Data": LATIN1}]),
     Request(1, "plugin.Step", [{"EventId": 1, "Data": LATIN1}])),
    (encode_request(2**31, "m", [None, False, b"\xff", 1.5, -1]), Request(2**31, "m", [None, False, b"\xff", 1.5, -1])),
    (encode_response(3, None, {"Data": "ret"}), Response(3, None, {"Data": "ret"})),
    (encode_response(3, "wrong", None), Response(3, "wrong", None)),
    (encode_notification("serverPid", [1]), Notification("serverPid", [1])),
]  # fmt: skip


@pytest.mark.parametrize(("packed", "message"), MESSAGES)
def test_a_message_survives_the_wire(packed, message):
    assert Messages().feed(packed) == [message]


def test_messages_in_any_pieces_come_out_unchanged():
    stream = b"".join(packed for packed, _ in MESSAGES)
    for size in (1, 2, 7, len(stream)):
        messages = Messages()
        found = [one for at in range(0, len(stream), size) for one in messages.feed(stream[at : at + size])]
        assert found == [message for _, message in MESSAGES]


def test_a_string_that_is_not_utf8_is_sent_as_it_came():
    """Kong packs raw bytes as strings."""
    packed = b"\x94\x00\x01\xa1m\x91\xa3Zo\xeb"
    (request,) = Messages().feed(packed)
    assert isinstance(request, Request)
    assert encode_request(1, "m", request.args) == packed


@pytest.mark.parametrize(
    "item",
    [
        5,
        "x",
        [],
        [0],
        [0, 1, "m"],
        [0, "1", "m", []],
        [0, 1, 2, []],
        [0, 1, "m", None],
        [1, 1],
        [2, 5, []],
        [3, 1, 2, 3],
    ],
)
def test_values_that_are_not_messages_are_refused(item):
    with pytest.raises(WireError):
        Messages().feed(msgpack.packb(item))


@pytest.mark.parametrize("data", [b"\xc1", b"\x94\x00\xc1", b"\x81" * 2000])
def test_bytes_that_are_not_messagepack_are_refused(data):
    with pytest.raises(WireError):
        Messages().feed(data + b"\xc1")


@pytest.mark.parametrize(
    ("method", "step"),
    [
        ("kong.request.get_header", "plugin.Step"),
        ("kong.request.get_headers", "plugin.StepMultiMap"),
        ("kong.client.authenticate", "plugin.StepCredential"),
        ("kong.router.get_route", "plugin.StepRoute"),
    ],
)
def test_steps_are_named_after_their_data(method, step):
    assert step_method(method) == step


IDS = [0, 1, 127, 128, 255, 256, 2**16, 2**31 - 1, 2**32 - 1]
MANY = settings(max_examples=200, deadline=None, database=None, derandomize=True)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    st.binary(max_size=300).map(lambda data: data.decode("utf-8", "surrogateescape")),
    st.binary(max_size=300),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=20), st.dictionaries(st.text(max_size=9), inner)),
    max_leaves=20,
)
ids = st.one_of(st.sampled_from(IDS), st.integers(0, 2**63))


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("event_id", IDS)
def test_the_end_of_a_handler_is_an_output(id, event_id):
    output = encode_output(id, event_id, HANDLER_END)
    assert output == encode_response(id, None, {"Data": "ret", "EventId": event_id})
    assert Messages().feed(output) == [Response(id, None, {"Data": "ret", "EventId": event_id})]


@MANY
@given(
    id=ids, event_id=ids, method=st.text(st.characters(exclude_categories=["Cs"])), args=st.lists(values, max_size=20)
)
def test_a_pdk_call_is_an_output(id, event_id, method, args):
    """Put together from parts, it has the bytes of the whole message."""
    output = encode_output(id, event_id, encode_pdk_call(method, args))
    assert output == encode_response(id, None, {"Data": {"Method": method, "Args": args}, "EventId": event_id})


def test_the_arguments_of_a_call_may_be_any_sequence():
    assert (
        encode_pdk_call("m", ("a", 1))
        == encode_pdk_call("m", ["a", 1])
        == msgpack.packb({"Method": "m", "Args": ["a", 1]})
    )


@pytest.mark.parametrize("value", [object(), 2**64, {"a": {1, 2}}])
def test_an_argument_that_messagepack_cannot_carry_is_refused_by_name(value):
    with pytest.raises(ArgumentError, match=r"^kong.ctx.shared.set: "):
        encode_pdk_call("kong.ctx.shared.set", ["k", value])


def test_an_argument_that_holds_itself_is_refused():
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ArgumentError, match=r"^kong.ctx.shared.set"):
        encode_pdk_call("kong.ctx.shared.set", [endless])


def test_a_call_has_a_longest_length(monkeypatch):
    fits = encode_pdk_call("m", ["x" * 1000])
    monkeypatch.setattr(msgpack_codec, "MAX_MESSAGE", len(fits))
    assert encode_pdk_call("m", ["x" * 1000]) == fits
    with pytest.raises(
        ArgumentError, match=f"m: the arguments are {len(fits) + 1} bytes long, and at most {len(fits)}"
    ):
        encode_pdk_call("m", ["x" * 1001])
