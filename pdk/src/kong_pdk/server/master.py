"""The master of a plugin server: holds the sockets, forks the workers and keeps them running.

It runs no code of a plugin and has one thread, so that it can fork at any time.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from kong_pdk.logs import NOTICE
from kong_pdk.mode import Mode
from kong_pdk.server import engine, line
from kong_pdk.server.contents import Content, ContentTable
from kong_pdk.server.forks import STOP_SIGNALS, signals_held
from kong_pdk.server.listener import QUEUE_SIZE, ListenError, Listeners
from kong_pdk.server.parent import LOOK_SECONDS, Parent
from kong_pdk.server.peers import make_inbox
from kong_pdk.server.seat import Seat
from kong_pdk.server.worker_process import RollCall, WorkerProcess, how_it_ended, pause_after
from kong_pdk.wire.errors import WireError
from kong_pdk.wire.msgpack import Message, Notification, Request, encode_notification, encode_response

STOP_SECONDS = 7.0
"""After so long a worker that was told to stop is killed: it drains for 3 s, and may take three more to end."""

STEADY_SECONDS = 10.0
"""A worker that lived so long did not end right after its start."""

_log = logging.getLogger(__name__)


class Master:
    """The workers of one server."""

    def __init__(self, paths: Iterable[Path], mode: Mode, queue_size: int = QUEUE_SIZE) -> None:
        """Bind the sockets; Kong sees them once all workers are ready.

        :param queue_size: how many connections may wait to be accepted.
        :raises ListenError: a socket cannot be made.
        """
        self._mode = mode
        self._status: int | None = None
        self._told_to_stop = False
        self._kill_at: float | None = None
        self._published = False
        self._contents = ContentTable()
        self._roll_calls: list[RollCall] = []
        self._said: set[str] = set()
        self._workers: dict[int, WorkerProcess] = {}
        self._due = dict.fromkeys(range(mode.workers), 0.0)
        self._failures = dict.fromkeys(range(mode.workers), 0)
        self._parent = Parent()
        self._inboxes = [make_inbox() for _ in range(mode.workers)]
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._listeners = Listeners(paths, queue_size)

    def run(self) -> Seat | int:
        """Keep the workers running until a signal says stop, or the process that started this one ends.

        :return: the exit status; in each worker, which is a fork of this process, its seat.
        """
        engine.load_shared(self._mode.engine)
        gc.collect()
        gc.freeze()
        self._take_signals()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        while self._status is None or self._workers:
            seat = self._start_due()
            if seat is not None:
                return seat
            self._wait()
            self._look_after()
            self._reap()
        self._listeners.close()
        _log.log(NOTICE, "stopped")
        return self._status

    def _take_signals(self) -> None:
        for each in (self._wake_reader, self._wake_writer):
            each.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_stop_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _on_stop_signal(self, *_: object) -> None:
        self._told_to_stop = True  # between any two steps of the loop, which sees to it next

    # --- the life of workers

    def _start_due(self) -> Seat | None:
        for slot in [slot for slot, moment in self._due.items() if moment <= time.monotonic()]:
            if self._status is not None:
                return None
            del self._due[slot]
            seat = self._start(slot)
            if seat is not None:
                return seat
        return None

    def _start(self, slot: int) -> Seat | None:
        """Fork a worker.

        :return: its seat, in the worker.
        """
        try:
            mine, its = socket.socketpair()
        except OSError as error:
            self._not_started(slot, error)
            return None
        with signals_held():
            try:
                pid = os.fork()
            except OSError as error:
                mine.close()
                its.close()
                self._not_started(slot, error)
                return None
            if pid == 0:
                mine.close()
                return self._leave(slot, its)
        its.close()
        self._workers[slot] = worker = WorkerProcess(slot, pid, mine, time.monotonic())
        self._selector.register(mine, selectors.EVENT_READ, worker)
        return None

    def _not_started(self, slot: int, error: OSError) -> None:
        _log.error("%s cannot be started: %s", self._name(slot), error.strerror)
        if self._workers:
            self._again(slot)
        else:
            self._stop(1)

    def _leave(self, slot: int, its: socket.socket) -> Seat:
        """Let go, in a worker, what is the master's: each end that is open twice hides that it was closed once."""
        signal.set_wakeup_fd(-1)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        self._selector.close()
        for each in (self._wake_reader, self._wake_writer, *(worker.line for worker in self._workers.values())):
            each.close()
        for other, (reader, _) in enumerate(self._inboxes):
            if other != slot:
                reader.close()
        outboxes = [writer for _, writer in self._inboxes]
        return Seat(slot, its, self._listeners.sockets, self._inboxes[slot][0], outboxes)

    def _reap(self) -> None:
        for worker in list(self._workers.values()):
            code = worker.reap()
            if code is None:
                continue
            self._hear(worker)
            del self._workers[worker.slot]
            self._contents.release_all(worker)
            self._roll_calls = [each for each in self._roll_calls if each.asker is not worker]
            for each in self._roll_calls:
                each.ended(worker)
            with contextlib.suppress(KeyError):
                self._selector.unregister(worker.line)
            worker.line.close()
            if self._status is None:
                self._ended(worker, code)

    def _ended(self, worker: WorkerProcess, code: int) -> None:
        what = f"{self._name(worker.slot)} ended ({how_it_ended(code)})"
        if not self._published:
            if not worker.failed:
                _log.error("%s before it was ready", what)
            self._stop(1)
        elif not worker.ready and not self._workers:
            _log.error("%s right after its start, and there is no other: the server ends", what)
            self._stop(1)
        else:
            _log.error("%s; another one is started", what)
            if worker.ready and time.monotonic() - worker.started_at > STEADY_SECONDS:
                self._failures[worker.slot] = 0
            self._again(worker.slot)

    def _name(self, slot: int) -> str:
        return f"worker {slot + 1} of {self._mode.workers}" if self._mode.workers > 1 else "the worker"

    def _again(self, slot: int) -> None:
        """Have a worker started."""
        self._due[slot] = time.monotonic() + pause_after(self._failures[slot])
        self._failures[slot] += 1

    def _stop(self, status: int) -> None:
        """Tell the workers to end."""
        if self._status is not None:
            return
        self._status = status
        self._kill_at = time.monotonic() + STOP_SECONDS
        self._due.clear()
        self._listeners.close()
        for worker in self._workers.values():
            worker.signal(signal.SIGTERM)

    # --- the loop

    def _wait(self) -> None:
        """Wait until a worker has said something or ended, a signal came, or something is due."""
        dues = [self._kill_at, self._contents.next_due(), *(worker.hangs_at for worker in self._workers.values())]
        moments = [*self._due.values(), *(each.due for each in self._roll_calls)]
        moments += [due for due in dues if due is not None]
        pause = min(moments) - time.monotonic() if moments else None
        if self._parent.is_watched:
            pause = LOOK_SECONDS if pause is None else min(pause, LOOK_SECONDS)
        for key, events in self._selector.select(None if pause is None else max(pause, 0.0)):
            if key.fileobj is self._wake_reader:
                with contextlib.suppress(BlockingIOError):
                    self._wake_reader.recv(4096)
            elif events & selectors.EVENT_WRITE:
                self._send(key.data, b"")
            else:
                self._hear(key.data)

    def _look_after(self) -> None:
        if self._status is None and (self._told_to_stop or self._parent.has_ended()):
            self._stop(0)
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill_at = None
            for worker in self._workers.values():
                _log.warning("%s does not end, it is killed", self._name(worker.slot))
                worker.signal(signal.SIGKILL)
        for id, holders in self._contents.expire().items():
            for worker in self._workers.values():
                if worker in holders:
                    self._send(worker, encode_notification(line.DROP, id))
        for worker in self._workers.values():
            if worker.hangs_at is not None and worker.hangs_at <= time.monotonic():
                _log.error("%s takes nothing of what its master has to tell it: it is killed", self._name(worker.slot))
                worker.give_up()
        self._end_roll_calls()

    # --- what workers say

    def _hear(self, worker: WorkerProcess) -> None:
        try:
            for message in worker.received():
                self._take(worker, message)
        except (WireError, TypeError, ValueError) as error:  # code of a plugin has written there
            _log.error("%s is killed: it says what no worker says: %s", self._name(worker.slot), error)
            worker.signal(signal.SIGKILL)
        if worker.has_hung_up:  # it ends, or has ended: that is for _reap
            with contextlib.suppress(KeyError):
                self._selector.unregister(worker.line)

    def _take(self, worker: WorkerProcess, message: Message) -> None:
        if isinstance(message, Request) and message.method == line.WORKERS:
            self._call_roll(worker, message.id)
        elif isinstance(message, Request):
            self._send(worker, encode_response(message.id, None, self._answer(worker, message)))
        elif not isinstance(message, Notification):
            raise TypeError(type(message).__name__)
        elif message.label == line.RELEASE:
            self._contents.release(message.args, worker)
        elif message.label == line.CLOSE:
            self._contents.close(message.args)
            for other in self._workers.values():
                if other is not worker:
                    self._send(other, encode_notification(line.CLOSE, message.args))
        elif message.label == line.PONG:
            for each in self._roll_calls:
                each.answered(worker)
        else:
            worker.ready, worker.failed = message.label == line.READY, message.label == line.FAILED
            self._say(message.args)
            self._publish_if_ready()

    def _answer(self, worker: WorkerProcess, request: Request) -> object:
        if request.method == line.KEEP:
            digest, name, config = request.args
            return self._contents.keep(digest, Content(name, config), worker)
        (id,) = request.args
        return self._contents.find(id, worker)

    def _call_roll(self, asker: WorkerProcess, request: int) -> None:
        called = [worker for worker in self._workers.values() if worker.ready]
        self._roll_calls.append(RollCall(asker, request, called))
        for worker in called:
            self._send(worker, encode_notification(line.PING, None))

    def _end_roll_calls(self) -> None:
        for each in [each for each in self._roll_calls if each.is_over]:
            self._roll_calls.remove(each)
            self._send(each.asker, encode_response(each.request, None, each.states()))

    def _send(self, worker: WorkerProcess, data: bytes) -> None:
        waits_for = selectors.EVENT_READ if worker.send(data) else selectors.EVENT_READ | selectors.EVENT_WRITE
        with contextlib.suppress(KeyError, ValueError):  # it has hung up
            self._selector.modify(worker.line, waits_for, worker)

    def _say(self, sentences: Iterable[str]) -> None:
        """Say what is wrong with plugins, once: the workers load the same ones."""
        for sentence in sentences:
            if sentence not in self._said:
                self._said.add(sentence)
                _log.error("%s", sentence)

    def _publish_if_ready(self) -> None:
        ready = [worker for worker in self._workers.values() if worker.ready]
        if self._published or self._status is not None or len(ready) < self._mode.workers:
            return
        self._published = True
        try:
            self._listeners.publish()
        except ListenError as error:
            _log.error("%s", error)
            self._stop(1)
