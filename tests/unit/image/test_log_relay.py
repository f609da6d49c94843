"""Every line of every program in one form, written to a descriptor whose reader may be slow or gone."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator

import pytest
from kong_pdk import masking
from kong_pdk.image.log_relay import MAX_LINE, Output, Relay
from kong_pdk.json_log import Entry, encode, timestamp


class Lines:
    """Keeps its input."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, line: bytes) -> None:
        self.data += line

    @property
    def lines(self) -> list[str]:
        assert self.data == b"" or self.data.endswith(b"\n")
        return [re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", "", line) for line in self.data.decode().splitlines()]


class Clock:
    """A time that tests set."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Log:
    """A relay and its output."""

    def __init__(self, least: str = "notice", form: str = "text") -> None:
        self.out, self.err, self.clock = Lines(), Lines(), Clock()
        self.relay = Relay(self.out, self.err, self.clock, least, form)


class JsonLog(Log):
    """A relay that writes JSON."""

    def __init__(self, least: str = "notice") -> None:
        super().__init__(least, "json")

    @property
    def entries(self) -> list[tuple[str, str, str]]:
        """Level, program and message of each object."""
        objects = [json.loads(line) for line in (self.out.data + self.err.data).splitlines()]
        assert all(list(found) == ["time", "level", "program", "message"] for found in objects)
        return [(found["level"], found["program"], found["message"]) for found in objects]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("2026/11/23 04:40:51 [notice] 1#0: start", "[notice] kong: 1#0: start"),
        (
            "2026/11/23 04:40:51 [verbose] prefix in use: /usr/local/kong",
            "[debug] kong: prefix in use: /usr/local/kong",
        ),
        ("2026/11/23 04:40:51 [emerg] bind() failed", "[emerg] kong: bind() failed"),
        ("2026/11/23 04:40:51 [warn] kong: has its own level", "[warn] kong: has its own level"),
        ('nginx: [warn] the "user" directive', '[warn] kong: nginx: [warn] the "user" directive'),
        ("Error: could not prepare", "[error] kong: Error: could not prepare"),
        ("WARN: found dangling unix sockets", "[warn] kong: WARN: found dangling unix sockets"),
        ("a.py:3: DeprecationWarning: old", "[warn] kong: a.py:3: DeprecationWarning: old"),
        ("Errors are fine", "[notice] kong: Errors are fine"),
        ("anything else\r", "[notice] kong: anything else"),
    ],
)
def test_a_line_of_standard_error(log: Log, line: str, expected: str) -> None:
    log.relay.feed("kong", "stderr", line.encode() + b"\n")
    assert log.err.lines == [expected]
    assert log.out.lines == []


def test_a_line_keeps_its_own_time(log: Log) -> None:
    log.relay.feed("kong", "stderr", b"2026/11/23 04:40:51 [notice] x\n")
    assert log.err.data.startswith(b"2026/11/23 04:40:51 ")


def test_an_access_log_line_is_info_on_standard_output(log: Log) -> None:
    log.relay.feed("kong", "stdout", b'127.0.0.1 - - [..] "GET / HTTP/1.1" 200\n')
    assert log.out.lines == ['[info] kong: 127.0.0.1 - - [..] "GET / HTTP/1.1" 200']


def test_pieces_of_lines_are_put_together_for_each_channel(log: Log) -> None:
    log.relay.feed("a", "stdout", b"on")
    log.relay.feed("b", "stdout", b"other\n")
    log.relay.feed("a", "stderr", b"error")
    log.relay.feed("a", "stdout", b"e\ntw")
    assert log.out.lines == ["[info] b: other", "[info] a: one"]
    log.relay.end("a")
    assert log.out.lines[2:] == ["[info] a: tw"]
    assert log.err.lines == ["[notice] a: error"]


def test_a_traceback_has_program_and_level_in_each_line(log: Log) -> None:
    log.relay.feed("a", "stderr", b"Traceback (most recent call last):\n  File x\n\nValueError: no\n")
    assert log.err.lines == [
        "[error] a: Traceback (most recent call last):",
        "[error] a:   File x",
        "[error] a: ValueError: no",
    ]


def test_the_lines_after_an_error_belong_to_it_for_a_second(log: Log) -> None:
    log.relay.feed("kong", "stderr", b"2026/11/23 04:40:51 [error] 1#0: failed\nstack traceback:\n")
    log.clock.now += 2
    log.relay.feed("kong", "stderr", b"something else\n")
    assert [line.split()[0] for line in log.err.lines] == ["[error]", "[error]", "[notice]"]


def test_a_line_without_level_is_at_least_notice(log: Log) -> None:
    log.relay.feed("a", "stderr", b"2026/11/23 04:40:51 [info] a: up\nwhat is this\n")
    assert log.err.lines == ["[info] a: up", "[notice] a: what is this"]


def test_a_line_without_end_is_cut(log: Log) -> None:
    log.relay.feed("a", "stdout", b"x" * (2 * MAX_LINE + 1))
    assert log.out.lines == [f"[info] a: {'x' * MAX_LINE}"] * 2
    log.relay.end("a")
    assert log.out.lines[2:] == ["[info] a: x"]


def test_it_is_not_cut_within_a_character(log: Log) -> None:
    log.relay.feed("a", "stdout", b"x" + "\u00fc".encode() * MAX_LINE)
    log.relay.end("a")
    assert "".join(line.removeprefix("[info] a: ") for line in log.out.lines) == "x" + "\u00fc" * MAX_LINE


def test_bytes_that_are_no_characters_are_cut_too(log: Log) -> None:
    log.relay.feed("a", "stdout", b"\x80" * (2 * MAX_LINE))
    log.relay.end("a")
    assert log.out.data.count(b"\x80") == 2 * MAX_LINE


def test_bytes_that_are_no_text_pass(log: Log) -> None:
    log.relay.feed("a", "stdout", b"\xff\xfe\n")
    assert log.out.data.endswith(b"[info] a: \xff\xfe\n")


@pytest.mark.parametrize(("least", "count"), [("debug", 3), ("notice", 2), ("error", 1), ("nonsense", 2)])
def test_supervisords_own_lines_follow_kongs_log_level(least: str, count: int) -> None:
    log = Log(least)
    log.relay.log("debug", "spawned")
    log.relay.log("notice", "received")
    log.relay.log("error", "gave up")
    assert len(log.err.lines) == count
    assert log.err.lines[-1] == "[error] supervisord: gave up"


@pytest.fixture
def json_log() -> JsonLog:
    return JsonLog()


def test_json_of_lines_as_kong_writes_them(json_log: JsonLog) -> None:
    json_log.relay.feed("kong", "stdout", b'127.0.0.1 - - [..] "GET / HTTP/1.1" 200\n')
    json_log.relay.feed("kong", "stderr", b"2026/11/23 04:40:51 [warn] 1#0: *5 careful\nnginx: [emerg] no\n")
    assert json_log.entries == [
        ("info", "kong", '127.0.0.1 - - [..] "GET / HTTP/1.1" 200'),
        ("warn", "kong", "1#0: *5 careful"),
        ("emerg", "kong", "nginx: [emerg] no"),
    ]


def test_json_has_the_time_of_the_line_or_of_its_arrival(json_log: JsonLog) -> None:
    json_log.relay.feed("kong", "stderr", b"2026/11/23 04:40:51 [notice] x\n2026/99/99 04:40:51 [notice] x\nx\n")
    times = [json.loads(line)["time"] for line in json_log.err.data.splitlines()]
    assert times[0].startswith("2026-11-23T04:40:51")
    assert times[1:] == [timestamp(json_log.clock.now)] * 2


def test_json_of_bytes_that_are_no_text(json_log: JsonLog) -> None:
    json_log.relay.feed("a", "stdout", b"caf\xe9 \xc3\xbc \0\n")
    assert json_log.entries == [("info", "a", "caf\\xe9 \u00fc \0")]


def test_json_of_a_server_stays_one_object_with_the_name_that_the_relay_knows(json_log: JsonLog) -> None:
    """A plugin cannot log under the name of another."""
    entry = Entry("2026-11-23T04:40:51+00:00", "error", "kong", "failed\nTraceback\n  File x")
    json_log.relay.feed("a", "stderr", "".join(f"{line}\n" for line in encode(entry)).encode())
    assert json_log.entries == [("error", "a", "failed\nTraceback\n  File x")]
    assert json.loads(json_log.err.data)["time"] == entry.time


def test_json_of_a_long_traceback_arrives_whole(json_log: JsonLog) -> None:
    lines = [f"  File {number}" for number in range(3000)]
    texts = encode(Entry("2026-11-23T04:40:51+00:00", "error", "a", "\n".join(lines)))
    data = "".join(f"{text}\n" for text in texts).encode()
    for start in range(0, len(data), 1000):
        json_log.relay.feed("a", "stderr", data[start : start + 1000])
    assert "\n".join(message for _, _, message in json_log.entries).split("\n") == lines


@pytest.mark.parametrize(
    "line", ['{"a": 1}', '{"time":"2026-11-23T04:40:51+00:00","level":"loud","program":"a","message":""}']
)
def test_json_that_is_not_ours_is_a_message(json_log: JsonLog, line: str) -> None:
    json_log.relay.feed("a", "stdout", f"{line}\n".encode())
    assert json_log.entries == [("info", "a", line)]


def test_json_of_the_unfinished_line_of_a_dead_program(json_log: JsonLog) -> None:
    json_log.relay.feed("a", "stderr", b'{"time":"2026-11-23T04')
    json_log.relay.end("a")
    assert json_log.entries == [("notice", "a", '{"time":"2026-11-23T04')]


def test_json_of_our_own_messages_is_one_object(json_log: JsonLog) -> None:
    json_log.relay.log("debug", "spawned")
    json_log.relay.log("error", "gave up\nfor good")
    assert json_log.entries == [("error", "supervisord", "gave up\nfor good")]


def test_text_is_not_taken_for_json(log: Log) -> None:
    (line,) = encode(Entry("2026-11-23T04:40:51+00:00", "error", "kong", "x"))
    log.relay.feed("a", "stdout", f"{line}\n".encode())
    assert log.out.lines == [f"[info] a: {line}"]


@pytest.fixture
def pipe() -> Iterator[list[int]]:
    """Give both ends of a pipe; a test may close the first one and leave it out of the list."""
    ends = list(os.pipe())
    yield ends
    for fd in ends:
        os.close(fd)


def read_all(fd: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += os.read(fd, 65536)
    return data


def test_written_bytes_arrive(pipe: list[int]) -> None:
    output = Output(pipe[1])
    output.write(b"one\n")
    output.write(b"two\n")
    assert output.flush()
    assert os.read(pipe[0], 100) == b"one\ntwo\n"


def test_a_reader_that_does_not_read_does_not_block(pipe: list[int]) -> None:
    output = Output(pipe[1])
    lines = [b"%7d\n" % number for number in range(100_000)]
    for line in lines:
        output.write(line)
    assert output.writable()
    reader: list[bytes] = []
    thread = threading.Thread(target=lambda: reader.append(read_all(pipe[0], 800_000)))
    thread.start()
    assert output.flush(seconds=60)
    thread.join(60)
    assert reader == [b"".join(lines)]
    assert not output.writable()


def test_lines_that_nobody_reads_are_dropped_as_a_whole(pipe: list[int]) -> None:
    output = Output(pipe[1], max_pending=100_000)
    for _ in range(300):
        output.write(b"x" * 999 + b"\n")
    assert output.dropped > 0
    expected = (300 - output.dropped) * 1000
    thread = threading.Thread(target=output.flush, args=(60,))
    thread.start()
    data = read_all(pipe[0], expected)
    thread.join(60)
    assert data == (b"x" * 999 + b"\n") * (300 - output.dropped)


def test_a_reader_that_is_gone_is_no_error(pipe: list[int]) -> None:
    os.close(pipe.pop(0))
    output = Output(pipe[0])
    output.write(b"lost\n")
    assert output.flush()
    assert not output.writable()


def test_a_closed_descriptor_is_no_error() -> None:
    ends = os.pipe()
    for fd in ends:
        os.close(fd)
    output = Output(ends[1])
    output.write(b"lost\n")
    assert output.flush()


@pytest.mark.parametrize("form", ["text", "json"])
def test_long_secrets_are_masked_in_the_lines_of_any_program(form: str) -> None:
    """A short one may be a word, such as "kong"."""
    masking.remember(["s3cret-\udcff", "s3cret-of-mine", "kong"])
    lines = Lines()
    relay = Relay(lines, lines, form=form)
    relay.feed("kong", "stderr", b"2026/11/23 04:40:51 [error] kong: s3cret-of-mine s3cret-\xff of kong\n")
    relay.feed("py-hello", "stdout", b"printed s3cret-of-")
    relay.feed("py-hello", "stdout", b"mine\n")
    assert "**** **** of kong" in lines.data.decode()
    assert "printed ****" in lines.data.decode()
