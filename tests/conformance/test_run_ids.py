"""What the replay sends is what Kong sent, but for the ids of the run."""

from __future__ import annotations

from typing import Any

import pytest
from conformance.frames import Close, Event, Item, Start, Step, unpacker_of
from conformance.recordings import Recording, recordings
from conformance.run_ids import with_ids, with_sequence
from kong_pdk.wire import protobuf_codec

NUMBER, ID = 70_000, 80_000


def _of(protocol: str) -> list[Recording]:
    return [recording for recording in recordings() if recording.protocol == protocol]


def _items(recording: Recording) -> list[Item]:
    return [item for case in recording.cases for item in case.items]


@pytest.mark.parametrize("recording", _of("ProtoBuf:1"), ids=lambda recording: recording.name)
def test_protobuf_calls_keep_every_byte(recording: Recording) -> None:
    """With the recorded ids in them they are what was recorded, the order of their fields too."""
    for item in _items(recording):
        if isinstance(item, (Start, Close, Event)):
            sequence, _ = protobuf_codec.decode_call(item.raw)
            instance = item.instance if isinstance(item, Event) else item.id if isinstance(item, Close) else None
            assert with_sequence(item.raw, sequence, instance) == item.raw


@pytest.mark.parametrize("recording", _of("MsgPack:1"), ids=lambda recording: recording.name)
def test_msgpack_requests_keep_all_but_their_ids(recording: Recording) -> None:
    """The rest of the bytes is in its place."""
    for item in _items(recording):
        if isinstance(item, Event):
            _compare(item.raw, "InstanceId")
            for call in item.calls:
                if isinstance(call.answer, Step):
                    _compare(call.answer.raw, "EventId")


def _compare(raw: bytes, key: str) -> None:
    changed = with_ids(raw, NUMBER, {key: ID})
    [was], [now] = list(unpacker_of(raw)), list(unpacker_of(changed))
    assert now == [0, NUMBER, was[2], [{**was[3][0], key: ID}]]
    assert _without_integers(changed) == _without_integers(raw)


def _without_integers(raw: bytes) -> list[Any]:
    """The bytes of all parts that are no ids: strings as they were written, whichever length their length has."""
    unpacker = unpacker_of(raw)
    parts: list[Any] = []
    for _ in range(unpacker.read_array_header() - 1):
        start = unpacker.tell()
        if not isinstance(unpacker.unpack(), int):
            parts.append(raw[start : unpacker.tell()])
    unpacker.read_array_header()
    for _ in range(2 * unpacker.read_map_header()):
        start = unpacker.tell()
        if not isinstance(unpacker.unpack(), int):
            parts.append(raw[start : unpacker.tell()])
    return parts
