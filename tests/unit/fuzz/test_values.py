"""The messages Value, Struct and ListValue, compared with protobuf's own: google.protobuf.struct_pb2."""

from __future__ import annotations

from contextlib import suppress

import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st
from kong_pdk.wire.messages import message_class
from kong_pdk.wire.pdk_values.protobuf_values import (
    fill_list,
    fill_struct,
    fill_value,
    read_deep,
    read_struct,
    read_value,
)
from kong_pdk.wire.protobuf_codec import parse
from kong_pdk.wire.wire_errors import WireError
from unit.fuzz.strategies import damaged, json_values, raw_text, unicode_text

INPUTS = "values on the wire"


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


@given(json_values(raw_text))
def test_the_reader_of_deep_values_reads_the_same(value):
    assert repr(read_deep("Value", packed("Value", fill_value, value))) == repr(
        read_value(parse("Value", packed("Value", fill_value, value)))
    )


@given(st.lists(st.tuples(st.sampled_from("ab"), json_values(raw_text, 3)), max_size=4))
def test_of_two_entries_with_one_key_the_last_one_counts(entries):
    stream = b"".join(packed("Struct", fill_struct, {key: value}) for key, value in entries)
    assert read_deep("Struct", stream) == read_struct(parse("Struct", stream)) == dict(entries)


@given(st.binary(max_size=300), st.sampled_from(["Value", "Struct"]))
def test_the_reader_of_deep_values_refuses_or_reads_any_bytes(garbage, name):
    with suppress(WireError):
        read_deep(name, garbage)


@given(json_values(raw_text), st.data())
def test_the_reader_of_deep_values_refuses_what_protobuf_refuses(value, data):
    bytes_of_it = data.draw(damaged(packed("Value", fill_value, value)))
    with suppress(WireError):
        read_deep("Value", bytes_of_it)
        return
    with pytest.raises(WireError):
        parse("Value", bytes_of_it)
