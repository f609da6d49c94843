"""Messages of MsgPack:1."""

from __future__ import annotations

import msgpack
import pytest
from kong_pdk.wire.msgpack_codec import (
    Messages,
    Notification,
    Request,
    Response,
    encode_notification,
    encode_request,
    encode_response,
    step_method,
)
from kong_pdk.wire.wire_errors import WireError

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
