"""The recordings exist and are as their README describes them, and few cases are known differences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conformance.frames import PdkCall, Step, read_frames
from conformance.known_differences import GATEWAY, MOST, SERVER, rule_for
from conformance.recordings import FOLDER, RecordingError, cases, read_recording
from kong_pdk.wire import msgpack_codec


def test_there_are_recordings() -> None:
    """A run without cases is a failure."""
    assert cases(), (
        f"no recordings in {FOLDER}: set KONG_RECORDINGS to the folder with the *.jsonl of a real Kong, "
        "rpc-schema.json and kong.yml"
    )


def test_every_line_is_a_case() -> None:
    """No line of a file is skipped."""
    lines = sum(bool(line.strip()) for path in FOLDER.glob("*.jsonl") for line in path.read_bytes().split(b"\n"))
    assert len(cases()) == lines


def test_a_call_without_an_answer_is_the_last_of_its_event() -> None:
    """The replay relies on it."""
    for case in cases():
        for event in case.events:
            assert not any(call.refused for call in event.pdk_calls[:-1]), case.name
            assert event.finished or event.pdk_calls, case.name


@pytest.mark.parametrize("direction", [SERVER, GATEWAY])
def test_known_differences_are_few(direction: str) -> None:
    """At most 2 % of the cases are known differences."""
    listed = [case.name for case in cases() if rule_for(direction, case)]
    assert len(listed) <= MOST * len(cases()), listed


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not JSON"),
        ("[]", "not a case"),
        ('{"id": 1, "frames": []}', "it has no frames"),
        ('{"id": 1, "request": {}, "frames": [{"conn": 1, "from": "kong", "hex": "9400"}]}', "no 'calls'"),
        (
            '{"id": 1, "request": {}, "calls": {}, "results": [], "frames": [{"conn": 1, "from": "kong", "hex": "z"}]}',
            "",
        ),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, why: str) -> None:
    """The error names the file, the line and the fault."""
    event = msgpack_codec.encode_request(2, "plugin.HandleEvent", [{"InstanceId": 1, "EventName": "log"}])
    frame = {"conn": 1, "from": "kong", "hex": event.hex()}
    good = {"id": 0, "calls": {}, "results": [], "request": {}, "frames": [frame]}
    (tmp_path / "x.jsonl").write_text(f"{json.dumps(good)}\n{line}\n")
    with pytest.raises(RecordingError) as raised:
        read_recording(tmp_path / "x.jsonl")
    assert "x.jsonl:2: not " in str(raised.value)
    assert why in str(raised.value)


def test_frames_of_several_connections_are_one_event() -> None:
    """Over MsgPack:1 the steps of an event may come on any connection, and a chunk may hold any part of a message."""
    call = {"Method": "kong.request.get_path", "Args": []}
    said = [
        (1, "kong", msgpack_codec.encode_request(2, "plugin.HandleEvent", [{"InstanceId": 1, "EventName": "log"}])),
        (1, "server", msgpack_codec.encode_response(2, None, {"Data": call, "EventId": 9})),
        (7, "kong", msgpack_codec.encode_request(2, "plugin.Step", [{"EventId": 9, "Data": "/"}])),
        (7, "server", msgpack_codec.encode_response(2, None, {"Data": "ret", "EventId": 9})),
    ]
    torn = [
        {"conn": conn, "from": side, "hex": part.hex()}
        for conn, side, message in said
        for part in (message[:6], message[6:])
    ]
    [event] = read_frames(torn)
    assert event.finished and event.phase == "log"
    assert event.pdk_calls == [PdkCall("kong.request.get_path", [], Step("plugin.Step", "/", 7))]
