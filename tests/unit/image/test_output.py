"""Writing to a descriptor whose reader is slow or gone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
from kong_pdk.image.log_relay import Output
from kong_pdk.image.supervision import Wakeup


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


def test_a_wakeup_is_readable_until_it_is_read() -> None:
    wakeup = Wakeup()
    try:
        wakeup.handle_read_event()
        os.write(wakeup.write_fd, b"\0\0")
        wakeup.handle_read_event()
        with pytest.raises(BlockingIOError):
            os.read(wakeup.fd, 1)
    finally:
        wakeup.close()
