"""Every message of ProtoBuf:1: fields in any order, as Kong writes them, and bytes that are not a message."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st
from kong_pdk.wire import messages
from kong_pdk.wire.calls import (
    CloseInstance,
    GetInstanceStatus,
    GetPluginInfo,
    GetPluginNames,
    HandleEvent,
    InstanceStatus,
    PluginInfo,
    PluginNames,
    StartInstance,
)
from kong_pdk.wire.messages import message_class
from kong_pdk.wire.protobuf_codec import decode_call, decode_return, encode_call, encode_return, parse
from kong_pdk.wire.wire_errors import WireError
from unit.fuzz.strategies import damaged, int32, int64, json_values, raw_text

INPUTS = "messages of ProtoBuf"

NAMES = sorted(messages._MESSAGES)
_DEPTH = 4

_texts = st.lists(raw_text, max_size=3).map(tuple)
calls = st.one_of(
    st.just(GetPluginNames()),
    st.builds(GetPluginInfo, raw_text),
    st.builds(StartInstance, raw_text, st.binary(max_size=60)),
    st.builds(GetInstanceStatus, int32),
    st.builds(CloseInstance, int32),
    st.builds(HandleEvent, int32, raw_text),
)
answers = st.one_of(
    st.none(),
    st.builds(PluginNames, _texts),
    st.builds(PluginInfo, raw_text, _texts, raw_text, int32, raw_text, int64, int64),
    st.builds(InstanceStatus, raw_text, int32, json_values(raw_text), int64),
)


def varint(number: int) -> bytes:
    """Encode a number as protobuf's documentation describes: seven bits a byte, the lowest first."""
    number %= 2**64
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(written) + bytes([number])


def delimited(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


Field = tuple[str, Any, bytes]


@st.composite
def written_fields(draw: Callable[..., Any], descriptor: Descriptor, depth: int = _DEPTH) -> list[Field]:
    """Some fields of a message: name, value and bytes, each encoded by hand."""
    found = []
    for field in descriptor.fields:
        if field.message_type is not None and not depth:
            continue
        for _ in range(draw(st.integers(0, 2 if field.is_repeated else 1))):
            value, written = draw(written_value(field, depth))
            found.append((field.name, value, written))
    return found


@st.composite
def written_value(draw: Callable[..., Any], field: FieldDescriptor, depth: int) -> tuple[Any, bytes]:
    number = field.number
    if field.message_type is not None:
        inner = draw(written_fields(field.message_type, depth - 1))
        content = b"".join(written for _, _, written in inner)
        return field.message_type.name, delimited(number, content)
    if field.type == FieldDescriptor.TYPE_BYTES:
        content = draw(st.binary(max_size=12))
        return content, delimited(number, content)
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        double = draw(st.floats(allow_nan=False))
        return double, varint(number << 3 | 1) + struct.pack("<d", double)
    if field.type == FieldDescriptor.TYPE_BOOL:
        flag = draw(st.booleans())
        return flag, varint(number << 3) + varint(flag)
    integer = draw(int32 if field.type == FieldDescriptor.TYPE_INT32 else int64)
    return integer, varint(number << 3) + varint(integer)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_fields_are_read_in_any_order(name, data):
    """Bytes encoded by hand have the value of the last occurrence of each field, and all items of a list."""
    descriptor = message_class(name).DESCRIPTOR
    fields = data.draw(st.permutations(data.draw(written_fields(descriptor))))
    message = parse(name, b"".join(written for _, _, written in fields))
    for field in descriptor.fields:
        values = [value for each, value, _ in fields if each == field.name]
        if field.message_type is None and field.is_repeated:
            assert list(getattr(message, field.name)) == values
        elif field.is_repeated:
            assert len(getattr(message, field.name)) == len(values)
        elif field.message_type is None and values and not field.containing_oneof:
            assert getattr(message, field.name) == values[-1]
    chosen = [each for each, _, _ in fields if descriptor.fields_by_name[each].containing_oneof]
    if descriptor.oneofs:
        assert message.WhichOneof("kind") == (chosen[-1] if chosen else None)


@pytest.mark.parametrize("name", NAMES)
@given(garbage=st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(name, garbage):
    try:
        parse(name, garbage)
    except WireError:
        return


@given(int64, calls)
def test_a_call_survives_the_wire(sequence, call):
    assert decode_call(encode_call(sequence, call)) == (sequence, call)


@given(int64, answers)
def test_an_answer_survives_the_wire(sequence, answer):
    assert decode_return(encode_return(sequence, answer)) == (sequence, answer)


@given(int64, calls, answers, st.data())
@pytest.mark.parametrize("decode", [decode_call, decode_return])
def test_a_damaged_call_or_answer_is_one_or_refused(decode, sequence, call, answer, data):
    whole = encode_call(sequence, call) if decode is decode_call else encode_return(sequence, answer)
    try:
        decode(data.draw(damaged(whole)))
    except WireError:
        return


def test_endless_nesting_is_refused():
    nested = b""
    for _ in range(10_000):
        nested = delimited(1, delimited(6, nested))  # A list in a value, in a list...
    with pytest.raises(WireError):
        parse("ListValue", nested)
