"""The messages Value, Struct and ListValue, against protobuf's own: google.protobuf.struct_pb2."""

from __future__ import annotations

import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st
from kong_pdk.wire.errors import WireError
from kong_pdk.wire.messages import message_class
from kong_pdk.wire.protobuf import parse
from kong_pdk.wire.values import fill_list, fill_struct, fill_value, read_struct, read_value
from unit.fuzz.anything import damaged, json_values, raw_text, unicode_text


def packed(name, fill, value):
    message = message_class(name)()
    fill(message, value)
    return message.SerializeToString()


@given(json_values(raw_text))
def test_a_value_survives_the_wire(value):
    assert read_value(parse("Value", packed("Value", fill_value, value))) == value


@given(json_values(raw_text))
def test_types_survive_the_wire(value):
    """1 is not True, and 1.0 is 1."""
    found = read_value(parse("Value", packed("Value", fill_value, value)))
    assert repr(found).replace("-0.0", "0") == repr(value).replace("-0.0", "0")


@given(st.dictionaries(raw_text, json_values(raw_text), max_size=6))
def test_a_struct_survives_the_wire(value):
    assert read_struct(parse("Struct", packed("Struct", fill_struct, value))) == value


@given(st.dictionaries(unicode_text, json_values(unicode_text), max_size=6))
def test_protobuf_itself_reads_our_struct(value):
    read_by_another = struct_pb2.Struct.FromString(packed("Struct", fill_struct, value))
    expected = struct_pb2.Struct()
    expected.update(value)
    assert read_by_another == expected


@given(st.lists(json_values(unicode_text), max_size=6))
def test_we_read_protobuf_s_own_list(value):
    by_another = struct_pb2.ListValue()
    by_another.extend(value)
    message = parse("ListValue", by_another.SerializeToString())
    assert [read_value(item) for item in message.values] == value
    assert struct_pb2.ListValue.FromString(packed("ListValue", fill_list, value)) == by_another


@given(st.binary(max_size=300))
@pytest.mark.parametrize("name", ["Value", "Struct", "ListValue"])
def test_any_bytes_are_a_value_or_refused(name, garbage):
    try:
        parse(name, garbage)
    except WireError:
        return


@given(json_values(raw_text), st.data())
def test_a_damaged_value_is_a_value_or_refused(value, data):
    try:
        read_value(parse("Value", data.draw(damaged(packed("Value", fill_value, value)))))
    except WireError:
        return
