"""Log lines as JSON objects."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from kong_pdk import json_log
from kong_pdk.json_log import MAX_OBJECT, Entry, encode, timestamp, timestamp_of_nginx

TIME = "2026-11-23T04:40:51+00:00"


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Live five and a half hours east of Greenwich."""
    monkeypatch.setenv("TZ", "XYZ-05:30")
    time.tzset()
    json_log._timestamp.cache_clear()
    json_log.timestamp_of_nginx.cache_clear()
    yield
    monkeypatch.undo()
    time.tzset()
    json_log._timestamp.cache_clear()
    json_log.timestamp_of_nginx.cache_clear()


@pytest.mark.parametrize(
    "message", ["", "text", 'a "quote" \\', "two\nlines", "\x1b[2J\0\x85\u2028", "gr\u00fc\U0001f600"]
)
def test_an_object_is_one_line_of_ascii_and_gives_back_what_it_was_made_of(message: str) -> None:
    (text,) = encode(Entry(TIME, "info", "kong", message))
    assert text.isascii() and text.isprintable()
    assert json.loads(text) == {"time": TIME, "level": "info", "program": "kong", "message": message}
    assert json_log.decode(text.encode()) == Entry(TIME, "info", "kong", message)


def test_bytes_that_are_no_text_are_shown_and_are_no_lone_surrogates() -> None:
    """A lone surrogate is an error to many a reader of JSON."""
    (text,) = encode(Entry(TIME, "info", "kong", b"Zo\xeb".decode("utf-8", "surrogateescape")))
    assert json.loads(text)["message"] == r"Zo\udceb"


@pytest.mark.parametrize("message", ["x" * 100_000, "\u00fc" * 20_000, "\0" * 20_000])
def test_a_long_message_is_several_objects_that_docker_need_not_cut(message: str) -> None:
    texts = list(encode(Entry(TIME, "info", "kong", message)))
    assert max(map(len, texts)) <= MAX_OBJECT
    assert "".join(json.loads(text)["message"] for text in texts) == message


def test_a_long_message_of_many_lines_is_cut_between_them() -> None:
    lines = [f"line {number} of a traceback" for number in range(5000)]
    texts = list(encode(Entry(TIME, "error", "kong", "\n".join(lines))))
    assert max(map(len, texts)) <= MAX_OBJECT
    assert "\n".join(json.loads(text)["message"] for text in texts).split("\n") == lines


@pytest.mark.parametrize(
    "line",
    [
        b"", b"text", b"{", b'{"time": "x"', b"[1]", b'{"time":1,"level":"info","program":"a","message":"b"}',
        b'{"time":"noon","level":"info","program":"a","message":"b"}',
        b'{"time":"2026-11-23T04:40:51+00:00","level":"info","program":"a","message":"b","more":1}',
        b'{"time":"\xff","level":"info","program":"a","message":"b"}',
        b'{"time":' + b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_such_object_is_not_taken_for_one(line: bytes) -> None:
    assert json_log.decode(line) is None


@pytest.mark.usefixtures("zone")
def test_times_have_the_offset_of_the_place() -> None:
    assert timestamp(1_800_000_000.75) == "2027-01-15T13:30:00+05:30"
    assert timestamp_of_nginx("2027/01/15 13:30:00") == "2027-01-15T13:30:00+05:30"


@pytest.mark.parametrize("stamp", ["2026/13/23 04:40:51", "0000/00/00 00:00:00", "2026/11/23 25:61:99"])
def test_a_time_that_there_is_not(stamp: str) -> None:
    assert timestamp_of_nginx(stamp) is None
