"""The loop: one thread that waits for all idle connections, for new ones, and for the events on its greenlets."""

from __future__ import annotations

import _thread
import contextlib
import heapq
import itertools
import logging
import math
import select
import socket
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from greenlet import getcurrent  # type: ignore[import-untyped, unused-ignore]

from kong_pdk.server.connection import Connection

_log = logging.getLogger(__name__)
_WAKES = 4096
_FOUND_AT_ONCE = 1023  # as many as epoll gives unless it is told otherwise
_MOST_FOUND = 65536
_END_SECONDS = 1.0
_MANY = 6
_LONGEST_NAP = 1e-3  # seconds
_WORTH = 2
_TRIAL = 50
_TRIAL_TRUST = 0.5
_MEMORY = 0.9
_LONGEST_PASSED = 0.01  # seconds; a time without events tells nothing

_gevent = sys.modules.get("gevent.monkey")
get_ident: Callable[[], int] = _gevent.get_original("_thread", "get_ident") if _gevent else _thread.get_ident
"""Gives the thread that runs, also where gevent has put greenlets in the place of threads."""
start_new_thread: Callable[..., int] = (
    _gevent.get_original("_thread", "start_new_thread") if _gevent else _thread.start_new_thread
)
allocate_lock: Callable[[], Any] = (
    _gevent.get_original("_thread", "allocate_lock") if _gevent else _thread.allocate_lock
)
epoll: Callable[[], select.epoll] = _gevent.get_original("select", "epoll") if _gevent else select.epoll
"""These, too, are Python's own."""


class Loop(ABC):
    """Hands each connection that can be read to whom it belongs.

    An idle connection belongs to the loop. ``pop`` from :attr:`idle` gives it away, in one step, so that two threads
    never have it; :meth:`release` gives it back.
    """

    def __init__(self) -> None:
        self.connections: dict[int, Connection] = {}
        """All open connections, by descriptor."""
        self.idle: dict[int, Connection] = {}
        """The connections that belong to the loop."""
        self.waiting: dict[int, Any] = {}
        """The greenlets that wait for their connection, by descriptor."""
        self.parked: set[Any] = set()
        """The greenlets that wait for something else that Kong does."""
        self.owed: set[int] = set()
        """The connections without an event on which replies to calls without a result will come, by descriptor."""
        self.hub: Any = None
        """The greenlet of the loop."""
        self.thread = 0
        """The thread of the loop."""
        self.crowd = math.inf
        """More connections than that with something to read are a crowd: :attr:`behind` counts it."""
        self.behind = 0
        """How many of a crowd are still to be read, after the one that is read now."""
        self._callbacks: dict[int, Callable[[], object]] = {}

    def share_connections(self, other: Loop) -> None:
        """Have all connections, and what Kong owes on them, in common with another loop of the same server."""
        self.connections, self.owed = other.connections, other.owed

    def adopt(self, connection: Connection) -> None:
        """Take a new connection, which is idle."""
        self.connections[connection.fd] = connection
        self.release(connection)

    def release(self, connection: Connection) -> None:
        """Take a connection back. Any thread may call this.

        What was received already, but not read, is read at once.
        """
        self.keep(connection)
        if connection.has_unread:
            self.call(lambda: self.ready(connection.fd))

    def keep(self, connection: Connection) -> None:
        """Take a connection back on which nothing whole has come yet."""
        self.idle[connection.fd] = connection
        if connection.watched_by is not self:
            self._begin_to_watch(connection)

    def give_away(self, connection: Connection) -> None:
        """Watch a connection no more: a thread that waits by itself has it."""
        loop, connection.watched_by = connection.watched_by, None
        if loop is not None:
            loop._unwatch(connection.fd)

    def forget(self, connection: Connection) -> None:
        """Close a connection. Any thread that has it may call this."""
        if self.connections.get(connection.fd) is connection:
            del self.connections[connection.fd]
            self.owed.discard(connection.fd)
            self.give_away(connection)
        connection.close()

    def _begin_to_watch(self, connection: Connection) -> None:
        self.give_away(connection)
        try:
            connection.watched_by = self  # first: from then on, another thread may give the connection away again
            self._watch(connection.fd)
        except BaseException:  # of another thread
            connection.watched_by = None
            raise

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        """Call a function whenever a descriptor can be read."""
        self._callbacks[fd] = callback
        self._watch(fd)

    def unwatch(self, fd: int) -> None:
        """End :meth:`watch`."""
        if self._callbacks.pop(fd, None) is not None:
            self._unwatch(fd)

    def ready(self, fd: int) -> None:
        """Handle a descriptor that can be read. Called on the loop."""
        connection = self.idle.pop(fd, None)
        if connection is not None:
            try:
                connection.on_readable()
            except BaseException:
                self.forget(connection)
                raise
            return
        waiter = self.waiting.pop(fd, None)
        if waiter is not None:
            waiter.switch()
            return
        callback = self._callbacks.get(fd)
        if callback is not None:
            callback()
        else:
            self._mute(fd)

    def _ready_in_turn(self, found: Sequence[tuple[int, int]]) -> None:
        """Handle the descriptors of a crowd that can be read. Events wait there as they do in an engine's queue."""
        # Not those that Kong has closed, or that bring what is owed to an event that has ended.
        events = {fd for fd, flags in found if fd in self.idle and fd not in self.owed and not flags & select.EPOLLHUP}
        self.behind = len(events)
        try:
            for fd, _ in found:
                self.behind -= fd in events
                self._safely(self.ready, fd)
        finally:
            self.behind = 0

    def _mute(self, fd: int) -> None:
        """Watch a connection no more until it is released: its event waits for something else, or elsewhere.

        Another loop may take it in any moment of this, so this one ends its own watch alone.
        """
        busy = self.connections.get(fd)
        if busy is not None and busy.watched_by is self:
            busy.watched_by = None
        self._unwatch(fd)
        if (connection := self.idle.get(fd)) is not None:  # it was released in this moment
            self._begin_to_watch(connection)

    def wait(self, connection: Connection, events: int, seconds: float | None) -> None:
        """Wait on a greenlet of the loop, also for room to send, or for a limited time.

        :param events: ``select.POLLIN``, or that and ``select.POLLOUT``.
        :raises TimeoutError: the time is up.
        """
        fd, me = connection.fd, getcurrent()
        is_done: list[bool] = []

        def time_is_up() -> None:
            if not is_done and self.waiting.pop(fd, None) is me:
                me.throw(TimeoutError)

        self.waiting[fd] = me
        if connection.watched_by is not self:
            self._begin_to_watch(connection)
        if events != select.POLLIN:
            self._watch_for(fd, events)
        if seconds is not None:
            self.call_later(seconds, time_is_up)
        try:
            self.hub.switch()
        finally:
            is_done.append(True)
            self.waiting.pop(fd, None)
            if events != select.POLLIN:
                self._watch_for(fd, select.POLLIN)

    @staticmethod
    def _safely(function: Callable[..., object], *args: object) -> None:
        """Call a function of one connection: the others must go on."""
        try:
            function(*args)
        except Exception:  # noqa: BLE001  # see above
            _log.exception("a defect of the plugin server")

    @abstractmethod
    def _watch(self, fd: int) -> None: ...

    @abstractmethod
    def _watch_for(self, fd: int, events: int) -> None: ...

    @abstractmethod
    def _unwatch(self, fd: int) -> None: ...

    @abstractmethod
    def call(self, function: Callable[[], object]) -> None:
        """Call a function on the loop, soon. Any thread may call this."""

    def call_here(self, function: Callable[[], object]) -> None:
        """Call a function on the thread of this loop, also after another one has taken its place."""
        self.call(function)

    def call_later(self, seconds: float, function: Callable[[], object]) -> None:
        """Call a function on the loop after some time. Any thread may call this."""
        if get_ident() == self.thread:
            self._call_later(seconds, function)
        else:
            self.call(lambda: self.call_later(seconds, function))

    @abstractmethod
    def _call_later(self, seconds: float, function: Callable[[], object]) -> None: ...

    @abstractmethod
    def start(self) -> None:
        """Start to run, beside the thread or greenlet that calls this.

        :raises RuntimeError: no thread can be started.
        """

    @abstractmethod
    def stop(self) -> None:
        """End what :meth:`start` has started."""

    def sockets(self) -> list[socket.socket]:
        """List the sockets of the loop's own, which a forked child must not keep."""
        return []


class WatchingLoop(Loop):
    """A loop that watches its descriptors by epoll, which any thread may tell to."""

    def __init__(self) -> None:
        super().__init__()
        self._epoll = epoll()

    def _serve(self) -> None:
        """Handle all descriptors that can be read. For the loops that watch the epoll object itself."""
        found = self._poll(0)
        if len(found) > self.crowd:
            self._ready_in_turn(found)
            return
        for fd, _ in found:
            self._safely(self.ready, fd)

    def _poll(self, seconds: float | None) -> list[tuple[int, int]]:
        """Wait until descriptors can be read, and give all that can."""
        found = self._epoll.poll(seconds)
        return found if len(found) < _FOUND_AT_ONCE else self._epoll.poll(0, _MOST_FOUND)

    def _watch(self, fd: int) -> None:
        with contextlib.suppress(OSError, ValueError):  # it is watched already, or closed, as the loop may be
            self._epoll.register(fd, select.POLLIN)

    def _watch_for(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def _unwatch(self, fd: int) -> None:
        with contextlib.suppress(OSError, ValueError):  # it is closed
            self._epoll.unregister(fd)


class EpollLoop(WatchingLoop):
    """A loop on a thread of its own.

    While a handler holds it, another one can take its place: see :meth:`replace_by`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._wake_reader, self._wake_writer = socket.socketpair()
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)
        self._calls: deque[Callable[[], object]] = deque()
        self._calls_here: deque[Callable[[], object]] = deque()
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._is_woken = False
        self._stopped = False
        self._successor: EpollLoop | None = None
        """The loop that has taken the place of this one; None before."""
        self._is_done: Callable[[], bool] = lambda: False
        """Tells whether nothing is left to do, after that."""
        self.turn = 0
        """How often the loop has looked."""
        self.is_looking = False
        """Whether the loop waits, and no handler holds it."""
        self.on_turn: Callable[[], object] | None = None
        """Called once at the next turn, and cleared before."""
        self._looked_at = 0.0
        self._found, self._passed = 0.0, _LONGEST_PASSED
        """How many descriptors were ready at the last looks, and the seconds that passed; older ones count less."""
        self._trust = 1.0
        """Which part of a whole nap the loop takes."""
        self._expected = 0.0
        """How many descriptors should be ready after the nap; 0 after a look without one."""
        self._without_nap = 0
        self._begun = threading.Event()
        self.native_thread = 0
        """The thread's number in the system."""
        self._running = threading.Thread(target=self._run, name="loop", daemon=True)

    def sockets(self) -> list[socket.socket]:
        """See :class:`Loop`."""
        return [self._wake_reader, self._wake_writer]

    def start(self) -> None:
        """See :class:`Loop`."""
        self._running.start()
        self._begun.wait()

    def stop(self) -> None:
        """See :class:`Loop`: waits for its end, unless a handler holds it."""
        self._stopped = True
        self.call(lambda: None)
        if self._running.is_alive():
            self._running.join(_END_SECONDS)
        if not self._running.is_alive():
            self._close()

    def _close(self) -> None:
        self._epoll.close()
        for end in self.sockets():
            end.close()

    def _run(self) -> None:
        self.hub = getcurrent()
        self.thread = get_ident()
        self.native_thread = threading.get_native_id()
        self._begun.set()
        self.watch(self._wake_reader.fileno(), self._run_calls)
        while not self._is_over:
            try:
                self._look()
            except BaseException:  # noqa: BLE001, PERF203  # of another thread, or a defect: other connections must go on
                _log.exception("an exception interrupted the loop")
        if self._successor is not None:
            self._give_idle(self._successor)  # of an event that ended in the moment of the replacement
            self._close()

    @property
    def _is_over(self) -> bool:
        return self._stopped or self._is_done()

    def _look(self) -> None:
        poll, ready = self._poll, self.ready
        while not self._is_over:
            self.is_looking = True
            found = poll(self._pause())
            self.is_looking = False
            self.turn += 1
            if self.on_turn is not None:
                on_turn, self.on_turn = self.on_turn, None
                on_turn()
            if len(found) > self.crowd:
                self._ready_in_turn(found)
            else:
                for fd, _ in found:
                    ready(fd)
            if self._timers:
                self._run_timers()
            self._nap(len(found))

    def replace_by(self, successor: EpollLoop, is_done: Callable[[], bool]) -> None:
        """Give another loop, which runs, all that no event of this loop has. Any thread may call this.

        This loop ends when its events have ended.

        :param is_done: tells whether they have.
        """
        self._successor, self._is_done = successor, is_done  # in this order: the loop may end at once
        own = self._wake_reader.fileno()
        for fd, callback in [each for each in self._callbacks.items() if each[0] != own]:
            self.unwatch(fd)
            successor.watch(fd, callback)
        self._give_idle(successor)
        with contextlib.suppress(IndexError):
            while True:
                successor.call(self._calls.popleft())
        self.call_here(lambda: None)  # it may wait, and have no reason to look whether it is done

    def _give_idle(self, successor: EpollLoop) -> None:
        for fd in list(self.idle):
            connection = self.idle.pop(fd, None)
            if connection is not None:
                successor.release(connection)

    def _nap(self, found: int) -> None:
        """Sleep for a moment while Kong has several calls to make, so that their replies are there together.

        A thread that is woken up runs slowly at first: waking up for each reply takes more time than what is done with
        it. Kong loses nothing, as long as it has other calls to make meanwhile. So the moment is as long as two thirds
        of the replies should take, by the rate at which they came before. Where they do not come, since Kong waits for
        slow clients, for example, the moments become shorter, and there are none at last but for a trial now and then.

        :param found: how many descriptors were ready at the last look.
        """
        now = time.perf_counter()
        self._found = self._found * _MEMORY + found
        self._passed = self._passed * _MEMORY + min(now - self._looked_at, _LONGEST_PASSED)
        self._looked_at = now
        if self._expected:  # the last look came after a nap
            self._trust = self._trust * 0.25 if found * 2 < self._expected else min(self._trust * 1.5, 1.0)
            self._expected = 0.0
        waiting = len(self.waiting) + len(self.parked) + len(self.owed)
        if waiting < _MANY or found * 2 > waiting:
            return
        most = min(waiting * 2 / 3, self._found / self._passed * _LONGEST_NAP)
        if most * self._trust < _WORTH:
            self._without_nap += 1
            if self._without_nap < _TRIAL or most < _WORTH:
                return
            self._without_nap, self._trust = 0, max(_TRIAL_TRUST, _WORTH / most)
        self._expected = most * self._trust
        time.sleep(self._expected * self._passed / self._found)

    def call(self, function: Callable[[], object]) -> None:
        """See :class:`Loop`."""
        self._calls.append(function)
        self._wake()

    def call_here(self, function: Callable[[], object]) -> None:
        """See :class:`Loop`."""
        self._calls_here.append(function)
        self._wake()

    def _wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            with contextlib.suppress(OSError):  # it is closed
                self._wake_writer.send(b"x")

    def _call_later(self, seconds: float, function: Callable[[], object]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), function))

    def _pause(self) -> float | None:
        return None if not self._timers else max(self._timers[0][0] - time.monotonic(), 0.0)

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def _run_calls(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_reader.recv(_WAKES)
        self._is_woken = False
        for calls in (self._calls_here, self._calls):
            for _ in range(len(calls)):
                with contextlib.suppress(IndexError):  # another loop has taken it
                    self._safely(calls.popleft())
