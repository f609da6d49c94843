"""The master of a plugin server: it holds the sockets, forks the workers and keeps them running.

It runs no code of a plugin, unless that wants to be imported here (``preload``), and has a single thread, so that it
can fork at any time.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import resource
import select
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from kong_pdk import stop_times
from kong_pdk.logs import NOTICE
from kong_pdk.mode import GEVENT, LOOP, Mode
from kong_pdk.server.event_record import RecordTable
from kong_pdk.server.failure_answers import FailureAnswers
from kong_pdk.server.instances.instance_store import Content, InstanceTable
from kong_pdk.server.listener import QUEUE_SIZE, ListenError, Listeners
from kong_pdk.server.workers import control_channel
from kong_pdk.server.workers.connection_channel import make_channel
from kong_pdk.server.workers.fork_hooks import STOP_SIGNALS, blocked_signals
from kong_pdk.server.workers.held_connections import HeldConnections
from kong_pdk.server.workers.liveness import Liveness, PingRound
from kong_pdk.server.workers.memory_kills import MemoryKills
from kong_pdk.server.workers.parent_process import PARENT_CHECK_SECONDS, ParentProcess, end_with_parent
from kong_pdk.server.workers.step_forwarding import ConnectionCounts, make_inbox
from kong_pdk.server.workers.worker import WorkerSockets
from kong_pdk.server.workers.worker_process import WorkerProcess, how_it_ended, pause_after
from kong_pdk.settings import START_SECONDS
from kong_pdk.wire.interface import STOCK, Interface
from kong_pdk.wire.msgpack_codec import Message, Notification, Request, encode_notification, encode_response
from kong_pdk.wire.wire_errors import WireError

_log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.05
_REST_SECONDS = 0.02
"""How long what workers say about their connections, and what Kong does with these, waits to be handled together."""

STAND_IN_SECONDS = 3.0
"""While no worker serves for this long, events wait; then the master answers them, until a worker serves."""

LOOK_AROUND_SECONDS = 5.0
"""How often the master looks whether its sockets still have their paths, and whether memory is short."""

STEADY_SECONDS = 10.0
"""A worker that lived this long did not end right after its start."""


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
        self._wakes_at = math.inf
        self._linger_until: float | None = None
        self._liveness = Liveness(START_SECONDS.read(os.environ) or math.inf, self._ping, self._kill)
        self._published = False
        self._look_around_at = math.inf
        self._memory_kills = MemoryKills()
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
        self._rests_until: float | None = None
        """Until when connections are not looked at; None while they are watched."""
        self._notices: Mapping[str, Callable[[WorkerProcess, Any], object]] = {
            control_channel.RELEASE: self._note_release,
            control_channel.CLOSE: self._note_close,
            control_channel.BLOCKS: self._note_blocking,
            control_channel.PONG: self._note_pong,
            control_channel.STUCK: self._retire,
            control_channel.FAILED: self._note_failed,
            control_channel.READY: self._note_ready,
        }
        self._listeners = Listeners(paths, queue_size)
        self._connections = HeldConnections(
            FailureAnswers(interface), resource.getrlimit(resource.RLIMIT_NOFILE)[0], mode.workers
        )

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
        self._traffic = select.epoll()
        """What happens with connections."""
        self._traffic.register(self._connections, select.EPOLLIN)
        self._selector.register(self._traffic, selectors.EVENT_READ)
        while self._status is None or self._workers or self._lingers():
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
        self._selector.register(master_end, selectors.EVENT_READ, worker)
        self._traffic.register(channel, select.EPOLLIN)
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
        self._traffic.close()
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
            with contextlib.suppress(KeyError):
                self._selector.unregister(worker.control)
            with contextlib.suppress(OSError):
                self._traffic.unregister(worker.channel)
            for channel in (worker.control, worker.channel):
                channel.close()
            if self._status is None:
                self._ended(worker, code)
            if answered:
                _log.error("%s", what_was_answered(answered))

    def _ended(self, worker: WorkerProcess, code: int) -> None:
        ending = f"{self._name(worker.slot)} ended ({self._how(code)})"
        if not self._published:
            if not worker.failed:
                _log.error("%s before it was ready", ending)
            self._stop(1)
            return
        if not worker.is_retired:
            _log.error("%s; another one is started", ending)
        if worker.ready and time.monotonic() - worker.started_at > STEADY_SECONDS:
            self._failures[worker.slot] = 0
        self._schedule_start(worker.slot, worker.ready)
        if self._unserved_since is None and not self._serving():
            self._unserved_since = time.monotonic()

    def _how(self, code: int) -> str:
        is_of_memory = code == -signal.SIGKILL and self._memory_kills.are_new()
        return how_it_ended(code) + (" by the kernel: out of memory" if is_of_memory else "")

    def _name(self, slot: int) -> str:
        return f"worker {slot + 1} of {self._mode.workers}" if self._mode.workers > 1 else "the worker"

    def _serving(self) -> list[WorkerProcess]:
        """List the workers that serve."""
        workers = self._workers.values()
        return [each for each in workers if each.ready and not each.is_killed and not each.is_retired]

    def _kill(self, worker: WorkerProcess, why: str) -> None:
        _log.error("%s %s: it is killed", self._name(worker.slot), why)
        worker.kill()

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
        if self._status is None:
            _log.log(NOTICE, "a worker serves again")
        self._stands_in = False
        for listening in self._listeners.sockets:
            self._selector.unregister(listening)
        self._connections.stand_back()

    def _accept(self, listening: socket.socket) -> None:
        """Accept a connection while no worker serves."""
        try:
            self._connections.adopt(listening.accept()[0])
        except BlockingIOError:  # Kong has closed it
            pass
        except OSError:  # no descriptor is free
            time.sleep(_PAUSE_SECONDS)

    def _stop(self, status: int) -> None:
        if self._status is not None:
            return
        self._status = status
        self._connections.end_at_requests()
        self._due.clear()
        self._stand_back()
        self._listeners.close()
        for worker in self._workers.values():
            worker.kill_at = time.monotonic() + stop_times.WORKER
            worker.signal(signal.SIGTERM)

    def _lingers(self) -> bool:
        """Whether idle connections are left, once all workers have ended, for a moment in which Kong may use them."""
        if self._linger_until is None:
            self._linger_until = time.monotonic() + stop_times.LINGER
        return self._connections.are_left and time.monotonic() < self._linger_until

    def _wait(self) -> None:
        """Wait for a message or the end of a worker, a signal, or the next deadline."""
        dues = [self._instances.next_due(), *(worker.hangs_at for worker in self._workers.values())]
        dues += [worker.kill_at for worker in self._workers.values() if not worker.is_killed]
        dues += [self._connections.next_due(), self._linger_until, self._look_around_at, self._rests_until]
        if self._unserved_since is not None and not self._stands_in:
            dues.append(self._unserved_since + STAND_IN_SECONDS)
        moments = [self._liveness.due, *self._due.values(), *(each.due for each in self._ping_rounds)]
        moments += [due for due in dues if due is not None]
        now = time.monotonic()
        pause = max(min(moments) - now, 0.0)
        if self._parent.is_watched:
            pause = min(pause, PARENT_CHECK_SECONDS)
        self._wakes_at = now + pause
        for key, events in self._selector.select(pause):
            if key.fileobj is self._wake_reader:
                with contextlib.suppress(BlockingIOError):
                    self._wake_reader.recv(4096)
            elif key.fileobj is self._traffic:
                self._look_at_traffic()
            elif key.data is None:
                assert isinstance(key.fileobj, socket.socket)
                self._accept(key.fileobj)
            elif events & selectors.EVENT_WRITE:
                self._send(key.data, b"")
            else:
                self._receive_from(key.data)
        if self._status is None:
            self._connections.pass_on(self._serving())

    def _look_at_traffic(self) -> None:
        """Note what has happened with connections, and do not look again for a moment, unless it is urgent."""
        found = {fd for fd, _ in self._traffic.poll(0)}
        if self._connections.fileno() in found:
            self._connections.serve()
        for worker in self._workers.values():
            if worker.channel.fileno() in found:
                self._note_connections(worker)
        if self._status is None and not self._stands_in and self._connections.next_due() is None:
            self._selector.unregister(self._traffic)
            self._rests_until = time.monotonic() + _REST_SECONDS

    def _end_rest(self) -> None:
        self._rests_until = None
        self._selector.register(self._traffic, selectors.EVENT_READ)

    def _note_connections(self, worker: WorkerProcess) -> None:
        try:
            self._connections.receive(worker)
        except ConnectionError:  # it ends; _reap does the rest
            with contextlib.suppress(OSError):
                self._traffic.unregister(worker.channel)
        except WireError as error:  # the plugin's code has written to the socket
            self._kill(worker, str(error))

    def _check_deadlines(self) -> None:
        if self._rests_until is not None and self._rests_until <= time.monotonic():
            self._end_rest()
        if self._status is None and (self._stop_requested or self._parent.has_ended()):
            self._stop(0)
        self._liveness.note_waking(time.monotonic() - self._wakes_at, self._workers.values())
        self._liveness.look(list(self._workers.values()))
        for id, holders in self._instances.expire().items():
            for worker in self._workers.values():
                if worker in holders:
                    self._send(worker, encode_notification(control_channel.DROP, id))
        for worker in self._workers.values():
            if worker.kill_at <= time.monotonic() and not worker.is_killed:
                self._kill(worker, "does not stop")
            if worker.hangs_at is not None and worker.hangs_at <= time.monotonic():
                self._kill(worker, "does not read the messages of its master")
        self._connections.check_deadlines()
        waited = 0.0 if self._unserved_since is None else time.monotonic() - self._unserved_since
        if waited >= STAND_IN_SECONDS and not self._stands_in and self._status is None:
            self._stand_in()
        self._end_ping_rounds()
        if self._look_around_at <= time.monotonic():
            self._look_around_at = time.monotonic() + LOOK_AROUND_SECONDS
            self._memory_kills.look()
            self._restore_sockets()

    def _restore_sockets(self) -> None:
        """Listen again where the path of a socket was removed: only connections that are open would be served.

        The workers, which accept from the old sockets, are replaced.
        """
        if self._status is not None or self._stands_in:
            return
        try:
            restored = self._listeners.restore()
        except ListenError as error:
            self._log_once([str(error)])
            return
        for path in restored:
            _log.error("%s was removed: the server listens there again, and replaces its workers", path)
        for worker in list(self._workers.values()) if restored else ():
            self._replace(worker)

    def _receive_from(self, worker: WorkerProcess) -> None:
        try:
            for message in worker.received():
                self._handle(worker, message)
        except (WireError, KeyError, TypeError, ValueError) as error:  # the plugin's code has written to the socket
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
        elif isinstance(message, Notification):
            self._notices[message.label](worker, message.args)
        else:
            raise TypeError(type(message).__name__)

    def _note_release(self, worker: WorkerProcess, id: int) -> None:
        self._instances.release(id, worker)

    def _note_close(self, worker: WorkerProcess, id: int) -> None:
        self._instances.close(id)
        for other in self._workers.values():
            if other is not worker:
                self._send(other, encode_notification(control_channel.CLOSE, id))

    def _note_blocking(self, worker: WorkerProcess, phase: tuple[str, str]) -> None:
        self._blocking.add((phase[0], phase[1]))

    def _note_pong(self, worker: WorkerProcess, _: object) -> None:
        worker.pinged_at = None
        for each in self._ping_rounds:
            each.answered(worker)

    def _note_failed(self, worker: WorkerProcess, messages: Iterable[str]) -> None:
        worker.failed = True
        self._log_once(messages)

    def _note_ready(self, worker: WorkerProcess, said: tuple[Iterable[str], Iterable[str], float, float]) -> None:
        messages, notes, *timeouts = said
        worker.ready, worker.timeouts = True, (timeouts[0], timeouts[1])
        self._log_once(messages)
        self._log_once(notes, NOTICE)
        self._publish_if_ready()
        self._liveness.due = 0.0
        self._stand_back()

    def _retire(self, worker: WorkerProcess, said: tuple[str, bool]) -> None:
        """Let a worker end what it has begun, and replace it."""
        why, is_hopeless = said
        if is_hopeless:
            self._kill(worker, why)
            return
        if self._status is None and not worker.is_retired:
            _log.error("%s %s: it is replaced", self._name(worker.slot), why)
            self._replace(worker)

    def _replace(self, worker: WorkerProcess) -> None:
        """Let a worker end what it has begun; another one is started then."""
        if not worker.is_retired:
            worker.is_retired = True
            worker.kill_at = time.monotonic() + stop_times.WORKER
            worker.signal(signal.SIGTERM)

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
            self._ping(worker)

    def _ping(self, worker: WorkerProcess) -> None:
        self._send(worker, encode_notification(control_channel.PING, None))

    def _end_ping_rounds(self) -> None:
        for each in [each for each in self._ping_rounds if each.is_over]:
            self._ping_rounds.remove(each)
            self._send(each.asking, encode_response(each.request, None, each.states()))

    def _send(self, worker: WorkerProcess, data: bytes) -> None:
        waits_for = selectors.EVENT_READ if worker.send(data) else selectors.EVENT_READ | selectors.EVENT_WRITE
        with contextlib.suppress(KeyError, ValueError):  # the worker has hung up
            self._selector.modify(worker.control, waits_for, worker)

    def _log_once(self, messages: Iterable[str], level: int = logging.ERROR) -> None:
        """Log the problems of plugins once, since all workers load the same plugins."""
        for message in messages:
            if message not in self._logged:
                self._logged.add(message)
                _log.log(level, "%s", message)

    def _publish_if_ready(self) -> None:
        ready = [worker for worker in self._workers.values() if worker.ready]
        if self._published or self._status is not None or len(ready) < self._mode.workers:
            return
        self._published = True
        self._look_around_at = time.monotonic() + LOOK_AROUND_SECONDS
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
