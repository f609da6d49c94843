"""The plugin server: its connections, the engines that run its events, and its end, which waits for open events."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from kong_pdk import stop_times
from kong_pdk.logs import NOTICE, report
from kong_pdk.mode import GEVENT, LOOP, THREADS
from kong_pdk.plugin import Plugin
from kong_pdk.server.connection import Connection, ConnectionClosed
from kong_pdk.server.deadlines import Deadlines, UnderWay
from kong_pdk.server.engines import Engine, Limits
from kong_pdk.server.engines.greenlets import Greenlets
from kong_pdk.server.engines.threads import ThreadPool
from kong_pdk.server.event_record import IDLE, READING, STATE
from kong_pdk.server.instances import Instance, InstanceError, Instances
from kong_pdk.server.instances.instance_store import InstanceStore
from kong_pdk.server.loop import EpollLoop, Loop, get_ident
from kong_pdk.server.protocols import Serving
from kong_pdk.server.protocols.msgpack import MsgpackServer
from kong_pdk.server.protocols.protobuf import ProtobufServer
from kong_pdk.server.watchdog import Watchdog
from kong_pdk.server.workers.connection_channel import NEW, ConnectionChannel
from kong_pdk.server.workers.fork_hooks import STOP_SIGNALS
from kong_pdk.server.workers.step_forwarding import Peers
from kong_pdk.settings import BLOCKING_MILLISECONDS, CONCURRENCY, QUEUE
from kong_pdk.wire.interface import STOCK, Interface
from kong_pdk.wire.msgpack_codec import SNIFFED, is_msgpack

if TYPE_CHECKING:
    from kong_pdk.server.engines.asyncio import AsyncioLoop, Tasks

_log = logging.getLogger(__name__)
_WAKES = 4096
_LONGEST_SLEEP = 3600.0
_PAUSE_SECONDS = 0.1
_SHORTAGE_SECONDS = 3.0
_TURN_SECONDS = 0.002
_SHORT_LOOK_SECONDS = 0.05
_OWED_SECONDS = 0.005
_CANCEL_SECONDS = 0.5
_SERVED_PART = 0.6
"""The part of the time for open events in which new ones are served, too, over MsgPack:1."""


class EngineOptions(NamedTuple):
    """How the events of a server wait."""

    name: str
    """``loop``, ``threads`` or ``gevent``, for which the process must be patched."""
    blocking: Iterable[tuple[str, str]] = ()
    """Plugins and phases that run on threads, since they would hold the loop."""
    on_blocking: Callable[[str, str], object] = lambda plugin, phase: None
    """Called with another one that does."""


DEFAULT = EngineOptions(THREADS)


class Server(Serving):
    """Serves plugins on listening sockets.

    The thread that calls :meth:`run` takes signals and looks after the instances; the loop has a thread of its own.
    """

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        plugins: Iterable[Plugin],
        listening: Iterable[socket.socket],
        store: InstanceStore | None = None,
        peers: Peers | None = None,
        interface: Interface = STOCK,
        engines: EngineOptions = DEFAULT,
        held: ConnectionChannel | None = None,
        on_stuck: Callable[[str, bool], object] = lambda why, is_hopeless: None,
    ) -> None:
        """:param store: shared by the workers of a server; None for a server with a single process.

        :param peers: the other workers; None where there are none.
        :param interface: the methods that Kong has over ProtoBuf:1.
        :param engines: how events wait.
        :param held: leads to the master, which holds all connections of Kong; None where there is no master.
        :param on_stuck: called when this process should be replaced, with the reason and whether it can still end
            what it has begun.
        """
        plugins = list(plugins)
        self._held = held
        self.instances = Instances(plugins, store, self._wake, os.environ)
        timeouts = [policy.timeout for policy in self.instances.policies.values()]
        self.longest_timeout = max(timeouts, default=math.inf)
        self.is_idle = True
        """Whether all handlers had ended when :meth:`run` returned."""
        self.running: set[UnderWay] = set()
        self._blocking = set(engines.blocking)
        self._on_blocking = engines.on_blocking
        self._watchdog: Watchdog | None = None
        self._limits = Limits(CONCURRENCY.read(os.environ), QUEUE.read(os.environ))
        self._deadlines = Deadlines(timeouts, self.instances.errors, self._limits.running)
        self._open(engines.name)
        self._tasks: Tasks | None = None
        self._asyncio: AsyncioLoop | None = None
        if any(plugin.async_phases for plugin in plugins):
            self._open_asyncio()
        self._protobuf = ProtobufServer(self, interface)
        self._msgpack = MsgpackServer(self, peers)
        self._listening = list(listening)
        self._peers = peers
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)
        self._short_since: float | None = None
        """Since when no descriptor is free for a connection."""
        self._is_stuck = False
        self._on_stuck = on_stuck
        self._has_waited = False
        self._look_at = math.inf
        self._next_look: object = None
        self._connections_of_kong: set[Connection] = set()
        self._told_to_stop = False
        self._takes_signals = False
        self.is_stopping = False
        self.begins_nothing = False
        self._patience = BLOCKING_MILLISECONDS.read(os.environ) / 1000

    def _open(self, engine: str) -> None:
        """Make the loop and the engines."""
        self.loop: Loop
        self._pool: Engine = ThreadPool(self._limits)
        self.helpers: Engine = ThreadPool()
        self._greenlets: Greenlets | None = None
        if engine == GEVENT:
            from kong_pdk.server.engines.gevent import GeventLoop

            self.loop = GeventLoop()
            self._greenlets = self._pool = Greenlets(self.loop, self._limits)
            self.helpers = Greenlets(self.loop)
        else:
            self.loop = EpollLoop()
            if engine == LOOP:
                self._greenlets = Greenlets(self.loop, self._limits)

    def _open_asyncio(self) -> None:
        """Make the loop and the engine of async phases.

        A connection stays with the loop whose event it had last, so that its next event wakes no other thread.
        """
        from kong_pdk.server.engines.asyncio import AsyncioLoop, Tasks

        self._asyncio = AsyncioLoop()
        self._asyncio.share_connections(self.loop)
        self._tasks = Tasks(self._asyncio, self._limits)
        self.instances.closing.run_coroutine = self._asyncio.run

    @property
    def loop_here(self) -> Loop:
        """See :class:`Serving`."""
        if self._asyncio is not None and get_ident() == self._asyncio.thread:
            return self._asyncio
        return self.loop

    def engine_of(self, instance: Instance, phase: str) -> Engine:
        """See :class:`Serving`."""
        if self._tasks is not None and phase in instance.plugin.async_phases:
            return self._tasks
        if self._greenlets is None or (self._blocking and (instance.plugin.name, phase) in self._blocking):
            return self._pool
        return self._greenlets

    @property
    def _engines(self) -> list[Engine]:
        return [engine for engine in (self._pool, self.helpers, self._greenlets, self._tasks) if engine is not None]

    def stop(self) -> None:
        """Make :meth:`run` return. Signal handlers and other threads may call it, more than once."""
        self._told_to_stop = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # the socket is full, so run() wakes up anyway, or it is closed
            self._wake_writer.send(b"x")

    def stop_at_signals(self) -> dict[signal.Signals, Any]:
        """Make :meth:`run` return at ``STOP_SIGNALS``.

        A signal also wakes the selector of :meth:`run`: otherwise a signal just before ``select`` would have no effect
        until the next event.

        :return: the signal handlers before this call.
        """
        self._takes_signals = True
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        return {number: signal.signal(number, lambda *_: self.stop()) for number in STOP_SIGNALS}

    def sockets(self) -> list[socket.socket]:
        """List the open sockets, which a forked child must not keep: Kong must see when this process closes them."""
        connections = [connection.socket for connection in list(self.loop.connections.values())]
        own = [*self._listening, *connections, self._wake_reader, self._wake_writer, *self.loop.sockets()]
        return own + (self._peers.sockets() if self._peers else [])

    def run(self) -> bool:
        """Serve until :meth:`stop`, then wait up to ``stop_times.EVENTS`` for the open events.

        :return: whether all events have ended.
        """
        for listening in self._listening:
            listening.setblocking(False)
        self._listen()
        if self._peers is not None:
            self.loop.watch(self._peers.inbox.fileno(), self._accept_from_peer)
        if self._held is not None:
            self.loop.watch(self._held.socket.fileno(), self._take_passed_on)
        if self._asyncio is not None:
            self._asyncio.start()
        self.loop.start()
        if self._greenlets is not None and isinstance(self.loop, EpollLoop):
            self._watchdog = Watchdog(self.loop)
        while not self._told_to_stop:
            self._sleep(min(self.instances.look_after(), self._watch()))
        if self._takes_signals:
            signal.set_wakeup_fd(-1)
        self.is_stopping = True
        self.loop.call(self._close_listening)
        self._abandon_if_alone()
        self._drain(stop_times.EVENTS * _SERVED_PART)
        self.begins_nothing = True
        self.loop.call(self._refuse_waiting)
        self._drain(stop_times.EVENTS * (1 - _SERVED_PART))
        if self.running and self._asyncio is not None:
            self._asyncio.cancel()
            self._drain(_CANCEL_SECONDS)
        # A handler that goes on after its timeout is a thread of this process, too.
        self.is_idle = not self.running and not self._deadlines.count_stuck()
        if not self.is_idle:
            _log.warning("stopped with handlers still running after %g seconds", stop_times.EVENTS)
        self._close()
        self.instances.errors.count(is_last=True)
        return self.is_idle

    def _drain(self, seconds: float) -> None:
        """Wait for the open events, which are over for Kong when it has answered the last calls of their handlers."""
        deadline = time.monotonic() + seconds
        self._let_loops_turn(seconds)
        while (self.running or self.loop.owed or self._has_unread()) and (left := deadline - time.monotonic()) > 0:
            self._sleep(left if self.running else min(left, _OWED_SECONDS))

    def _let_loops_turn(self, seconds: float) -> None:
        """Wait until each loop has done what it was doing: it may have read an event and not noted it as running."""
        for loop in (self.loop, self._asyncio):
            if loop is not None:
                turned = threading.Event()
                loop.call(turned.set)
                turned.wait(seconds)

    def _has_unread(self) -> bool:
        """Whether something has come that the loop has not read yet, such as the next request on a connection."""
        poll = select.poll()
        for fd in list(self.loop.idle):
            poll.register(fd, select.POLLIN)
        return bool(poll.poll(0))

    def _sleep(self, seconds: float) -> None:
        """Wait until something happens: a stop, an instance that is due, the last event's end; or until the time is up.

        Signals of the plugin, and signals whose handlers run next, end it as well.
        """
        poll = select.poll()
        poll.register(self._wake_reader, select.POLLIN)
        if poll.poll(min(seconds, _LONGEST_SLEEP) * 1000):
            self._wake_reader.recv(_WAKES)

    # Connections

    def _listen(self) -> None:
        """Accept connections; those that this worker does not accept wait in the backlog."""
        if not self.is_stopping:
            for listening in self._listening:
                self.loop.watch(listening.fileno(), functools.partial(self._accept, listening))

    def _close_listening(self) -> None:
        if self._held is not None:
            self.loop.unwatch(self._held.socket.fileno())
        for listening in self._listening:
            self.loop.unwatch(listening.fileno())
            listening.close()

    def _refuse_waiting(self) -> None:
        for engine in self._engines:
            engine.refuse_waiting()

    def _stop_listening(self, seconds: float) -> None:
        """Accept no connections for some time; they stay in the backlog."""
        for each in self._listening:
            self.loop.unwatch(each.fileno())
        self.loop.call_later(seconds, self._listen)

    def _leaves_to_others(self) -> bool:
        """Whether to let a worker with fewer connections accept one, for a moment: it may be busy."""
        self._has_waited = not self._has_waited and self._peers is not None and not self._peers.has_turn
        if self._has_waited:
            self._stop_listening(_TURN_SECONDS)
        return self._has_waited

    def _accept(self, listening: socket.socket) -> None:
        if self._leaves_to_others():
            return
        try:
            accepted, _ = listening.accept()
        except BlockingIOError:  # another worker has it
            return
        except OSError as error:  # out of file descriptors: connections stay in the backlog
            self._note_shortage(error)
            self._stop_listening(_PAUSE_SECONDS)
            return
        self._short_since = None
        self._begin_of_kong(accepted)

    def _note_shortage(self, error: OSError) -> None:
        """Log that no descriptor is free. Where Kong's connections are not what has them, that may not end."""
        now = time.monotonic()
        self._short_since = self._short_since or now
        self.instances.errors.report(f"cannot accept a connection: {error.strerror}")
        self.look_soon()
        connections, (limit, _) = len(self._connections_of_kong), resource.getrlimit(resource.RLIMIT_NOFILE)
        if now - self._short_since > _SHORTAGE_SECONDS and connections < limit / 2:
            self._be_replaced(f"cannot accept connections ({error.strerror}), although it has only {connections}")

    def _be_replaced(self, why: str, is_hopeless: bool = False) -> None:
        if not self._is_stuck:
            self._is_stuck = True
            self._on_stuck(why, is_hopeless)

    def _count_connections(self) -> None:
        if self._peers is not None:
            self._peers.note_connections(len(self._connections_of_kong))

    def _accept_from_peer(self) -> None:
        assert self._peers is not None
        accepted = self._peers.receive()
        if accepted is not None:
            accepted.setblocking(True)
            self._begin(Connection(accepted))

    def _take_passed_on(self) -> None:
        """Take a connection that another worker had, or the master."""
        assert self._held is not None
        try:
            passed = self._held.take()
        except ConnectionError:  # the master has ended, and this process ends at once
            self.loop.unwatch(self._held.socket.fileno())
            return
        if passed is not None:
            self._begin_of_kong(passed.connection, passed.token, passed.owed)

    def _begin_of_kong(self, accepted: socket.socket, token: int = NEW, owed: int = 0) -> None:
        """Serve a connection of Kong, which the master has, too, from before anything of it is read."""
        record = None
        if self._held is not None:
            try:
                record = self._held.register(accepted, token)
            except BlockingIOError:  # the master is busy
                self.loop.call_later(_TURN_SECONDS, lambda: self._begin_of_kong(accepted, token, owed))
                return
        accepted.setblocking(True)
        connection = Connection(accepted)
        if record is not None:
            connection.record = record
        connection.expect(owed)
        self._connections_of_kong.add(connection)
        self._count_connections()
        self._begin(connection)

    def _begin(self, connection: Connection) -> None:
        connection.on_readable = lambda: self._sniff(connection)
        self.loop.adopt(connection)

    def _sniff(self, connection: Connection) -> None:
        """Read the first bytes, which tell the protocol."""
        try:
            received = connection.peek(SNIFFED)
        except ConnectionClosed:
            self.forget(connection)
            return
        if len(received) < SNIFFED:
            connection.record[STATE] = READING if received else IDLE
            self.loop.keep(connection)
            return
        protocol = self._msgpack if is_msgpack(received) else self._protobuf
        protocol.serve(connection)
        connection.on_readable()

    def forget(self, connection: Connection) -> None:
        """See :class:`Serving`."""
        self._connections_of_kong.discard(connection)
        self._count_connections()
        self.loop_here.forget(connection)
        self._abandon_if_alone()

    def _abandon_if_alone(self) -> None:
        """End handlers that wait for Kong, once the server is stopping and Kong has closed all connections."""
        if not self.is_stopping:
            return
        if self._peers is not None and not self._connections_of_kong:
            self._peers.close_idle()
        if not self.loop.connections:
            self._msgpack.events.abandon_all()

    def _close(self) -> None:
        if self._watchdog is not None:
            self._watchdog.close()
        self.loop.stop()
        for connection in list(self.loop.connections.values()):
            if connection in self._connections_of_kong and self._held is not None:
                connection.leave()
            else:
                connection.close()
        for each in [*self._listening, self._wake_reader, self._wake_writer]:
            each.close()

    def close_instances(self, seconds: float) -> bool:
        """Close all instances, once :meth:`run` has returned, and stop what an ``async def close`` may need.

        :param seconds: how long to wait at most.
        :return: whether all are closed.
        """
        are_closed = self.instances.end(seconds)
        if self._asyncio is not None:
            self._asyncio.stop()
        return are_closed

    # A handler that holds the loop

    def _watch(self) -> float:
        """Look whether a handler holds the loop; give the seconds until the next look."""
        if self._watchdog is None:
            return math.inf
        if self._watchdog.look() and self._watchdog.is_still_held():
            self._replace_loop(self._watchdog)
        if not self._watchdog.is_quiet:
            return self._patience
        self._watchdog.loop.on_turn = self._wake
        return math.inf

    def _replace_loop(self, watchdog: Watchdog) -> None:
        """Let another loop serve the other connections, and run what holds this one on threads from now on."""
        holder = watchdog.holder()
        if holder is None:
            return
        phase = holder.instance.plugin.name, holder.phase
        if phase not in self._blocking:
            self._blocking.add(phase)
            with contextlib.suppress(InstanceError):  # the master is gone, and this process ends soon
                self._on_blocking(*phase)
            report(
                _log, NOTICE, "%s: %s waits or computes for more than %g ms (%s): it runs on threads from now "
                'on, as engine = "threads" in the module lets it from the start', *phase, self._patience * 1000,
                holder.place,
            )  # fmt: skip
        held, greenlets = watchdog.loop, self._greenlets
        assert greenlets is not None
        try:
            successor = EpollLoop()
            successor.share_connections(held)
            successor.start()
        except (RuntimeError, OSError) as error:  # no more threads or descriptors
            _log.error("no other loop can be started: %s", error)
            return
        self._greenlets = Greenlets(successor, self._limits)
        self.loop = successor
        held.replace_by(successor, lambda: greenlets.is_idle)
        greenlets.give_waiting(self._greenlets)
        self._look_at = math.inf
        successor.call(self.look_soon)
        successor.call(self._listen)  # the timer that begins to listen again may be one of the held loop
        watchdog.close()
        self._watchdog = Watchdog(successor)

    # Events

    def ended(self, call: UnderWay) -> None:
        """See :class:`Serving`."""
        self.running.discard(call)
        if self.is_stopping and not self.running:
            self._wake()

    @property
    def is_watching(self) -> bool:  # type: ignore[override]
        """See :class:`Serving`."""
        return self._look_at != math.inf

    def look_soon(self) -> None:
        """See :class:`Serving`."""
        is_full = any(engine.is_full for engine in self._engines)
        now = time.monotonic()
        due = now + (min(_SHORT_LOOK_SECONDS, self._deadlines.pause) if is_full else self._deadlines.pause)
        if due < self._look_at:
            self._look_at = due
            self._next_look = look = object()
            self.loop.call_later(due - now, functools.partial(self._look, look))

    def _look(self, look: object) -> None:
        """Look after what waits for room, or for Kong.

        :param look: which one; only the last that was planned takes place, else they would multiply.
        """
        if look is not self._next_look:
            return
        if get_ident() != self.loop.thread:  # a timer of a loop that was replaced
            self.loop.call(functools.partial(self._look, look))
            return
        self._look_at = math.inf
        for engine in self._engines:
            if engine.is_full:
                self._msgpack.events.abandon_oldest()
                engine.look_after()
        self._msgpack.events.expire()
        self._deadlines.look(self.running)
        if self._deadlines.is_hopeless:
            self._be_replaced("has a handler that goes on after its timeout and holds up others", is_hopeless=True)
        elif self._deadlines.are_many:
            self._be_replaced("has too many handlers that do not end")
        errors = self.instances.errors
        errors.count()
        is_busy = any(engine.is_full for engine in self._engines)
        if self.running or self._deadlines.stuck or errors.due != math.inf or is_busy:
            self.look_soon()
