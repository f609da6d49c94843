"""The master of a plugin server: it holds the sockets, forks the workers and keeps them running.

It runs no code of a plugin, unless that wants to be imported here (``preload``), and has a single thread, so that it
can fork at any time.
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
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from kong_pdk.logs import NOTICE
from kong_pdk.mode import GEVENT, LOOP, Mode
from kong_pdk.server.event_record import RecordTable
from kong_pdk.server.failure_answers import FailureAnswers
from kong_pdk.server.instances.instance_store import Content, InstanceTable, WorkerState
from kong_pdk.server.listener import QUEUE_SIZE, ListenError, Listeners
from kong_pdk.server.workers import control_channel
from kong_pdk.server.workers.connection_channel import make_channel
from kong_pdk.server.workers.fork_hooks import STOP_SIGNALS, blocked_signals
from kong_pdk.server.workers.held_connections import Held, HeldConnections
from kong_pdk.server.workers.parent_process import PARENT_CHECK_SECONDS, ParentProcess, end_with_parent
from kong_pdk.server.workers.step_forwarding import ConnectionCounts, make_inbox
from kong_pdk.server.workers.worker import WorkerSockets
from kong_pdk.wire.interface import STOCK, Interface
from kong_pdk.wire.msgpack_codec import Message, Messages, Notification, Request, encode_notification, encode_response
from kong_pdk.wire.wire_errors import WireError

_log = logging.getLogger(__name__)
_CHUNK = 64 * 1024

MOST_PAUSE = 5.0
"""Seconds at most between the starts of a worker that ends again and again."""

MOST_PAUSE_AFTER_SERVING = 0.25
"""The same for a worker that was ready each time."""

STAND_IN_SECONDS = 3.0
"""While no worker serves for this long, events wait; then the master answers them, until a worker serves."""

STEADY_SECONDS = 10.0
"""A worker that lived this long did not end right after its start."""

TAKE_SECONDS = 30.0
"""A worker that reads nothing from its master for this long hangs."""

MOST_OUTGOING = 64 * 1024 * 1024
"""A worker for which this many bytes wait hangs."""

ANSWER_SECONDS = 3.0
"""A worker that does not answer a ping of its master within this time counts as hanging."""

STOP_SECONDS = 7.0
"""A worker that was told to stop is killed after this time: it drains for 3 s, and may take 3 s more to end."""


class WorkerProcess:
    """A worker, seen from its master."""

    def __init__(
        self, slot: int, pid: int, control: socket.socket, channel: socket.socket, records: RecordTable
    ) -> None:
        """:param slot: the number of the worker, from 0.

        :param control: the master's end of the control channel; it becomes non-blocking.
        :param channel: the master's end of the channel of connections.
        :param records: what the connections of the worker are at.
        """
        self.slot = slot
        self.pid = pid
        self.control = control
        self.channel = channel
        self.records = records
        self.held: dict[int, Held] = {}
        self.started_at = time.monotonic()
        self.ready = False
        self.failed = False
        self.has_hung_up = False
        self._messages = Messages()
        self._outgoing = bytearray()
        self._waits_since: float | None = None
        self.is_killed = False
        control.setblocking(False)

    def received(self) -> Iterator[Message]:
        """Give the messages that the worker has sent. Sets ``has_hung_up`` once it has closed its end.

        :raises WireError: it sent something else than MessagePack-RPC.
        """
        while data := self._receive():
            yield from self._messages.feed(data)

    def _receive(self) -> bytes:
        try:
            data = self.control.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        self.has_hung_up = not data
        return data

    def send(self, data: bytes) -> bool:
        """Send data, and keep the part that a busy worker does not read now.

        :return: whether all data is sent.
        """
        if self.is_killed:
            return True
        self._outgoing += data
        try:
            while self._outgoing:
                del self._outgoing[: self.control.send(self._outgoing)]
                self._waits_since = time.monotonic()
        except BlockingIOError:
            self._waits_since = self._waits_since or time.monotonic()
            return False
        except OSError:  # it has ended
            self._outgoing.clear()
        self._waits_since = None
        return True

    @property
    def hangs_at(self) -> float | None:
        """When the worker counts as hanging unless it reads something before; None while no data waits for it."""
        if self._waits_since is None:
            return None
        return self._waits_since + TAKE_SECONDS if len(self._outgoing) <= MOST_OUTGOING else 0.0

    def kill(self) -> None:
        """Kill the process, and keep no data for it."""
        self.is_killed = True
        self._outgoing.clear()
        self._waits_since = None
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, which is not reaped yet."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def reap(self) -> int | None:
        """Give the exit code, negative for a signal, once the process has ended."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # the master was started with SIGCHLD ignored, so the kernel reaps its children
            return 0
        return os.waitstatus_to_exitcode(status) if pid else None


class PingRound:
    """A ping to all workers, and the workers that did not answer yet.

    The master pings at a request for the state of the workers (``plugin.GetWorkers``), not by itself.
    """

    def __init__(self, asking: WorkerProcess, request: int, workers: Collection[WorkerProcess]) -> None:
        """:param asking: the worker that got the request from outside.

        :param request: the id of its request to the master.
        """
        self.asking = asking
        self.request = request
        self.due = time.monotonic() + ANSWER_SECONDS
        self._workers = list(workers)
        self._silent = set(workers)

    def answered(self, worker: WorkerProcess) -> None:
        """Note that a worker answered."""
        self._silent.discard(worker)

    def ended(self, worker: WorkerProcess) -> None:
        """Expect no answer of a worker that has ended, and leave it out of the states: another one replaces it."""
        self._silent.discard(worker)
        self._workers = [each for each in self._workers if each is not worker]

    @property
    def is_over(self) -> bool:
        """Whether all workers have answered, or the time is up."""
        return not self._silent or time.monotonic() >= self.due

    def states(self) -> list[WorkerState]:
        """Give the state of each worker."""
        return [WorkerState(each.slot + 1, each.pid, each not in self._silent) for each in self._workers]


def how_it_ended(code: int) -> str:
    """Describe an exit code, as ``os.waitstatus_to_exitcode`` gives it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"


def pause_after(failures: int, has_served: bool) -> float:
    """Give the seconds until a worker is started again: 0 the first time, then longer with each failure.

    :param has_served: whether the worker was ready. What ends such a worker may be a request, and a client that repeats
        it must not keep the others waiting.
    """
    pause = 2.0 ** min(failures - 1, 10) if failures else 0.0
    return min(pause, MOST_PAUSE_AFTER_SERVING if has_served else MOST_PAUSE)


class Master:
    """The workers of one server."""

    def __init__(
        self, paths: Iterable[Path], mode: Mode, queue_size: int = QUEUE_SIZE, interface: Interface = STOCK
    ) -> None:
        """Bind the sockets. Kong finds them once all workers are ready.

        :param paths: where Kong looks for the sockets.
        :param queue_size: how many connections may wait to be accepted.
        :param interface: the methods that Kong has over ProtoBuf:1.
        :raises ListenError: a socket cannot be made.
        """
        self._mode = mode
        self._status: int | None = None
        self._stop_requested = False
        self._kill_at: float | None = None
        self._published = False
        self._instances = InstanceTable()
        self._blocking: set[tuple[str, str]] = set()
        self._ping_rounds: list[PingRound] = []
        self._logged: set[str] = set()
        self._workers: dict[int, WorkerProcess] = {}
        self._due = dict.fromkeys(range(mode.workers), 0.0)
        self._failures = dict.fromkeys(range(mode.workers), 0)
        self._parent = ParentProcess()
        self._inboxes = [make_inbox() for _ in range(mode.workers)]
        self._counts = ConnectionCounts(mode.workers)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._unserved_since: float | None = None
        """Since when no worker serves; None while one does, and before the first one has."""
        self._stands_in = False
        self._listeners = Listeners(paths, queue_size)
        self._connections = HeldConnections(FailureAnswers(interface))

    def run(self) -> WorkerSockets | int:
        """Keep the workers running until a signal stops the server, or the parent ends.

        Returns several times: in the master, and in each worker, which is a fork of it.

        :return: in the master the exit status, in a worker its sockets.
        """
        load_shared(self._mode.engine)
        gc.collect()
        gc.freeze()
        self._install_signal_handlers()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._selector.register(self._connections, selectors.EVENT_READ)
        while self._status is None or self._workers:
            sockets = self._start_due()
            if sockets is not None:
                return sockets
            self._wait()
            self._check_deadlines()
            self._reap()
        self._listeners.close()
        _log.log(NOTICE, "stopped")
        return self._status

    def _install_signal_handlers(self) -> None:
        for each in (self._wake_reader, self._wake_writer):
            each.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_stop_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _on_stop_signal(self, *_: object) -> None:
        self._stop_requested = True  # the loop looks at it next: the signal has woken the selector

    def _start_due(self) -> WorkerSockets | None:
        for slot in [slot for slot, moment in self._due.items() if moment <= time.monotonic()]:
            if self._status is not None:
                return None
            del self._due[slot]
            sockets = self._start(slot)
            if sockets is not None:
                return sockets
        return None

    def _start(self, slot: int) -> WorkerSockets | None:
        """Fork a worker.

        :return: its sockets, in the worker.
        """
        master, pid = os.getpid(), 0
        with contextlib.ExitStack() as ends:
            try:
                master_end, worker_end = map(ends.enter_context, socket.socketpair())
                channel, channel_of_worker = map(ends.enter_context, make_channel())
                records = RecordTable()
                with blocked_signals():
                    pid = os.fork()
                    if pid == 0:
                        ends.pop_all()
                        end_with_parent(master)
                        for each in (master_end, channel):
                            each.close()
                        return self._become_worker(slot, worker_end, channel_of_worker, records)
            except OSError as error:
                self._start_failed(slot, error)
                return None
            ends.pop_all()
        for each in (worker_end, channel_of_worker):
            each.close()
        self._workers[slot] = worker = WorkerProcess(slot, pid, master_end, channel, records)
        for each in (master_end, channel):
            self._selector.register(each, selectors.EVENT_READ, worker)
        return None

    def _start_failed(self, slot: int, error: OSError) -> None:
        _log.error("%s cannot be started: %s", self._name(slot), error.strerror)
        if self._published or self._workers:
            self._schedule_start(slot)
        else:
            self._stop(1)

    def _become_worker(
        self, slot: int, control: socket.socket, channel: socket.socket, records: RecordTable
    ) -> WorkerSockets:
        """Close, in a new worker, the sockets of the master and of other workers.

        A socket that stays open here would hide from its other end that the owner has closed it.
        """
        signal.set_wakeup_fd(-1)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        self._selector.close()
        self._connections.close_epoll()
        of_others = [each for worker in self._workers.values() for each in (worker.control, worker.channel)]
        for each in (self._wake_reader, self._wake_writer, *of_others, *self._connections.sockets()):
            each.close()
        for other, (reader, _) in enumerate(self._inboxes):
            if other != slot:
                reader.close()
        outboxes = [writer for _, writer in self._inboxes]
        inbox = self._inboxes[slot][0]
        blocking = sorted(self._blocking)
        return WorkerSockets(
            slot, control, self._listeners.sockets, inbox, outboxes, self._counts, channel, records, blocking
        )

    def _reap(self) -> None:
        for worker in list(self._workers.values()):
            code = worker.reap()
            if code is None:
                continue
            self._receive_from(worker)
            del self._workers[worker.slot]
            self._counts.leave_out(worker.slot)
            self._instances.release_all(worker)
            self._ping_rounds = [each for each in self._ping_rounds if each.asking is not worker]
            for each in self._ping_rounds:
                each.ended(worker)
            answered = self._connections.worker_ended(worker)
            for channel in (worker.control, worker.channel):
                with contextlib.suppress(KeyError):
                    self._selector.unregister(channel)
                channel.close()
            if self._status is None:
                self._ended(worker, code)
            if answered:
                _log.error("%s", what_was_answered(answered))

    def _ended(self, worker: WorkerProcess, code: int) -> None:
        ending = f"{self._name(worker.slot)} ended ({how_it_ended(code)})"
        if not self._published:
            if not worker.failed:
                _log.error("%s before it was ready", ending)
            self._stop(1)
            return
        _log.error("%s; another one is started", ending)
        if worker.ready and time.monotonic() - worker.started_at > STEADY_SECONDS:
            self._failures[worker.slot] = 0
        self._schedule_start(worker.slot, worker.ready)
        if self._unserved_since is None and not self._serving():
            self._unserved_since = time.monotonic()

    def _name(self, slot: int) -> str:
        return f"worker {slot + 1} of {self._mode.workers}" if self._mode.workers > 1 else "the worker"

    def _serving(self) -> list[WorkerProcess]:
        """List the workers that serve."""
        return [worker for worker in self._workers.values() if worker.ready and not worker.is_killed]

    def _schedule_start(self, slot: int, has_served: bool = False) -> None:
        """Start a worker again, after a pause that grows with the number of its failures."""
        self._due[slot] = time.monotonic() + pause_after(self._failures[slot], has_served)
        self._failures[slot] += 1

    def _stand_in(self) -> None:
        """Answer Kong in the place of the workers."""
        _log.error(
            "no worker has served for %g s: until one does, events are answered with status 500", STAND_IN_SECONDS
        )
        self._stands_in = True
        self._connections.stand_in()
        for listening in self._listeners.sockets:
            self._selector.register(listening, selectors.EVENT_READ)

    def _stand_back(self) -> None:
        """Leave Kong to a worker that serves."""
        self._unserved_since = None
        if not self._stands_in:
            return
        _log.log(NOTICE, "a worker serves again")
        self._stands_in = False
        for listening in self._listeners.sockets:
            self._selector.unregister(listening)
        self._connections.stand_back()

    def _accept(self, listening: socket.socket) -> None:
        """Accept a connection while no worker serves."""
        with contextlib.suppress(OSError):  # Kong has closed it, or no descriptor is free
            self._connections.adopt(listening.accept()[0])

    def _stop(self, status: int) -> None:
        if self._status is not None:
            return
        self._status = status
        self._kill_at = time.monotonic() + STOP_SECONDS
        self._due.clear()
        if self._stands_in:
            self._stand_back()
        self._listeners.close()
        for worker in self._workers.values():
            worker.signal(signal.SIGTERM)

    def _wait(self) -> None:
        """Wait for a message or the end of a worker, a signal, or the next deadline."""
        dues = [self._kill_at, self._instances.next_due(), *(worker.hangs_at for worker in self._workers.values())]
        dues.append(self._connections.next_due())
        if self._unserved_since is not None and not self._stands_in:
            dues.append(self._unserved_since + STAND_IN_SECONDS)
        moments = [*self._due.values(), *(each.due for each in self._ping_rounds)]
        moments += [due for due in dues if due is not None]
        pause = min(moments) - time.monotonic() if moments else None
        if self._parent.is_watched:
            pause = PARENT_CHECK_SECONDS if pause is None else min(pause, PARENT_CHECK_SECONDS)
        for key, events in self._selector.select(None if pause is None else max(pause, 0.0)):
            if key.fileobj is self._wake_reader:
                with contextlib.suppress(BlockingIOError):
                    self._wake_reader.recv(4096)
            elif key.fileobj is self._connections:
                self._connections.serve()
            elif key.data is None:
                assert isinstance(key.fileobj, socket.socket)
                self._accept(key.fileobj)
            elif key.fileobj is key.data.channel:
                self._note_connections(key.data)
            elif events & selectors.EVENT_WRITE:
                self._send(key.data, b"")
            else:
                self._receive_from(key.data)
        if self._status is None:
            self._connections.pass_on(self._serving())
        else:
            self._connections.end_waiting()

    def _note_connections(self, worker: WorkerProcess) -> None:
        try:
            self._connections.receive(worker)
        except ConnectionError:  # it ends; _reap does the rest
            with contextlib.suppress(KeyError):
                self._selector.unregister(worker.channel)

    def _check_deadlines(self) -> None:
        if self._status is None and (self._stop_requested or self._parent.has_ended()):
            self._stop(0)
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill_at = None
            for worker in self._workers.values():
                _log.warning("%s does not stop: it is killed", self._name(worker.slot))
                worker.signal(signal.SIGKILL)
        for id, holders in self._instances.expire().items():
            for worker in self._workers.values():
                if worker in holders:
                    self._send(worker, encode_notification(control_channel.DROP, id))
        for worker in self._workers.values():
            if worker.hangs_at is not None and worker.hangs_at <= time.monotonic():
                _log.error("%s does not read the messages of its master: it is killed", self._name(worker.slot))
                worker.kill()
        self._connections.check_deadlines()
        waited = 0.0 if self._unserved_since is None else time.monotonic() - self._unserved_since
        if waited >= STAND_IN_SECONDS and not self._stands_in and self._status is None:
            self._stand_in()
        self._end_ping_rounds()

    def _receive_from(self, worker: WorkerProcess) -> None:
        try:
            for message in worker.received():
                self._handle(worker, message)
        except (WireError, TypeError, ValueError) as error:  # the plugin's code has written to the socket
            _log.error("%s is killed: it sent an invalid message to its master: %s", self._name(worker.slot), error)
            worker.signal(signal.SIGKILL)
        if worker.has_hung_up:  # it ends; _reap does the rest
            with contextlib.suppress(KeyError):
                self._selector.unregister(worker.control)

    def _handle(self, worker: WorkerProcess, message: Message) -> None:
        if isinstance(message, Request) and message.method == control_channel.WORKERS:
            self._ping_workers(worker, message.id)
        elif isinstance(message, Request):
            self._send(worker, encode_response(message.id, None, self._look_up(worker, message)))
        elif not isinstance(message, Notification):
            raise TypeError(type(message).__name__)
        elif message.label == control_channel.RELEASE:
            self._instances.release(message.args, worker)
        elif message.label == control_channel.CLOSE:
            self._instances.close(message.args)
            for other in self._workers.values():
                if other is not worker:
                    self._send(other, encode_notification(control_channel.CLOSE, message.args))
        elif message.label == control_channel.BLOCKS:
            self._blocking.add((message.args[0], message.args[1]))
        elif message.label == control_channel.PONG:
            for each in self._ping_rounds:
                each.answered(worker)
        else:
            worker.ready, worker.failed = (
                message.label == control_channel.READY,
                message.label == control_channel.FAILED,
            )
            self._log_once(message.args)
            self._publish_if_ready()
            if worker.ready:
                self._stand_back()

    def _look_up(self, worker: WorkerProcess, request: Request) -> object:
        if request.method == control_channel.KEEP:
            digest, name, config = request.args
            return self._instances.keep(digest, Content(name, config), worker)
        (id,) = request.args
        return self._instances.find(id, worker)

    def _ping_workers(self, asking: WorkerProcess, request: int) -> None:
        workers = [worker for worker in self._workers.values() if worker.ready]
        self._ping_rounds.append(PingRound(asking, request, workers))
        for worker in workers:
            self._send(worker, encode_notification(control_channel.PING, None))

    def _end_ping_rounds(self) -> None:
        for each in [each for each in self._ping_rounds if each.is_over]:
            self._ping_rounds.remove(each)
            self._send(each.asking, encode_response(each.request, None, each.states()))

    def _send(self, worker: WorkerProcess, data: bytes) -> None:
        waits_for = selectors.EVENT_READ if worker.send(data) else selectors.EVENT_READ | selectors.EVENT_WRITE
        with contextlib.suppress(KeyError, ValueError):  # the worker has hung up
            self._selector.modify(worker.control, waits_for, worker)

    def _log_once(self, messages: Iterable[str]) -> None:
        """Log the problems of plugins once, since all workers load the same plugins."""
        for message in messages:
            if message not in self._logged:
                self._logged.add(message)
                _log.error("%s", message)

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


def what_was_answered(phases: Mapping[str, int]) -> str:
    """Tell how many requests were answered in the place of a worker that has ended.

    :param phases: their numbers, by phase.
    """
    total = sum(phases.values())
    listed = ", ".join(f"{name} {count}" if len(phases) > 1 else name for name, count in sorted(phases.items()))
    requests = "1 event was" if total == 1 else f"{total} events were"
    return f"{requests} under way there ({listed}); what Kong had not got an answer for ends with status 500"


def load_shared(engine: str) -> None:
    """Import modules that all workers share, in their master or before.

    For gevent these are fewer: modules that make locks or queues of Python are imported after gevent has replaced them.
    """
    import kong_pdk.wire.protobuf_codec

    if engine != GEVENT:
        import kong_pdk.server.server
    if engine == LOOP:
        import kong_pdk.server.engines.greenlets  # noqa: F401
