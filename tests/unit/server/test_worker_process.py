"""A worker as its master sees it: how it ended, when the next one starts, and a line that does not block."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest
from kong_pdk.server.event_record import RecordTable, note_protobuf_event, set_due
from kong_pdk.server.workers import worker_process
from kong_pdk.server.workers.worker_process import (
    MOST_PAUSE,
    MOST_PAUSE_AFTER_SERVING,
    WorkerProcess,
    how_it_ended,
    pause_after,
)
from kong_pdk.wire.msgpack_codec import Messages, Notification, encode_notification


def seen(pid: int, control: socket.socket) -> WorkerProcess:
    """A worker as its master sees it."""
    return WorkerProcess(0, pid, control, control, RecordTable())


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "SIGKILL"), (-11, "SIGSEGV"), (-40, "signal 40")]
)
def test_how_it_ended(code, words):
    assert how_it_ended(code) == words


def test_pauses_grow_to_an_end():
    assert [pause_after(failures, False) for failures in (0, 1, 2, 3)] == [0.0, 1.0, 2.0, 4.0]
    assert pause_after(4, False) == pause_after(10**6, False) == MOST_PAUSE
    assert pause_after(0, True) == 0.0
    assert pause_after(1, True) == pause_after(10**6, True) == MOST_PAUSE_AFTER_SERVING


def test_a_worker_that_does_not_read_blocks_no_other_worker():
    mine, its = socket.socketpair()
    with mine, its:
        worker = seen(os.getpid(), mine)
        notice = encode_notification("drop", 1)
        sent = 0
        while worker.send(notice):
            sent += 1
        assert not worker.send(notice)
        received, messages = [], Messages()
        while len(received) < sent + 2:
            received += messages.feed(its.recv(65536))
            worker.send(b"")
        assert received == [Notification("drop", 1)] * (sent + 2)


def test_a_worker_that_hung_up_is_known_by_its_line():
    mine, its = socket.socketpair()
    with mine:
        worker = seen(os.getpid(), mine)
        assert list(worker.received()) == []
        assert not worker.has_hung_up
        its.sendall(encode_notification("ready", []))
        its.close()
        assert list(worker.received()) == [Notification("ready", [])]
        assert worker.has_hung_up
        assert worker.send(b"x")


def test_reaping():
    mine, its = socket.socketpair()
    with mine, its:
        pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
        worker = seen(pid, mine)
        assert worker.reap() is None
        worker.signal(signal.SIGKILL)
        while (code := worker.reap()) is None:
            pass
        assert code == -signal.SIGKILL


@pytest.mark.parametrize(("limit", "value"), [("TAKE_SECONDS", 0.0), ("MOST_OUTGOING", 100_000)])
def test_a_worker_that_takes_nothing_counts_as_hanging(monkeypatch, limit, value):
    monkeypatch.setattr(worker_process, limit, value)
    mine, its = socket.socketpair()
    with mine, its:
        pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
        worker = seen(pid, mine)
        worker.send(b"x")
        assert worker.hangs_at is None
        while worker.send(b"x" * 65536):
            pass
        while limit == "MOST_OUTGOING" and worker.hangs_at > time.monotonic():
            worker.send(b"x" * 65536)
        assert worker.hangs_at <= time.monotonic()
        worker.kill()
        assert worker.hangs_at is None
        assert worker.send(b"x" * 65536)  # nothing is kept for it
        assert worker.hangs_at is None
        while (code := worker.reap()) is None:
            pass
        assert code == -signal.SIGKILL


def test_a_worker_that_takes_something_now_and_then_does_not(monkeypatch):
    mine, its = socket.socketpair()
    with mine, its:
        worker = seen(os.getpid(), mine)
        while worker.send(b"x" * 65536):
            pass
        before = worker.hangs_at
        its.recv(1 << 20)
        worker.send(b"")
        assert worker.hangs_at is None or worker.hangs_at > before


def test_a_moment_that_is_being_written_is_not_taken_for_one_that_is_over():
    """The worker's bytes are zero for an instant: the worker would be killed."""
    mine, its = socket.socketpair()
    with mine, its:
        worker = seen(os.getpid(), mine)
        records = [worker.records.of(number) for number in (3, 4)]
        worker.held.update(dict.fromkeys((3, 4)))
        for record in records:
            note_protobuf_event(record, 30.0, 1, b"")
        due = worker.earliest_due()
        assert due > time.monotonic()
        for written in range(8):  # its highest bytes are the last ones
            set_due(records[1], time.monotonic() + 40.0)
            records[1][written:8] = bytes(8 - written)
            assert worker.earliest_due() == due
