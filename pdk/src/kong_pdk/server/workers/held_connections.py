"""The connections of Kong, as the master holds them: a duplicate of each one that a worker has.

When a worker ends, Kong does not see that: the master answers the events that the worker had, and passes the idle
connections on to the other workers, or the next one.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import Protocol

from kong_pdk.server.event_record import (
    IDLE,
    MSGPACK_ANSWER,
    MSGPACK_CALL,
    MSGPACK_CALL_UNREAD,
    MSGPACK_EVENT,
    MSGPACK_UNREAD,
    PROTOBUF_ANSWER,
    PROTOBUF_EVENT,
    Noted,
    RecordTable,
    read_record,
)
from kong_pdk.server.failure_answers import FailureAnswers, lets_pass
from kong_pdk.server.workers.connection_channel import NEW, REFUSED, pass_on, receive_registered
from kong_pdk.server.workers.stand_in import StandIn
from kong_pdk.wire.msgpack_codec import SNIFFED, is_msgpack
from kong_pdk.wire.protobuf_codec import PREFIX_SIZE
from kong_pdk.wire.wire_errors import WireError

_log = logging.getLogger(__name__)
_CHUNK = 64 * 1024

FREE_DESCRIPTORS = 64
"""So many descriptors of the master stay free of connections: a start of a worker needs some."""

DESCRIPTORS_OF_WORKER = 4
"""So many descriptors the master has for each worker."""

SETTLE_SECONDS = 0.2
"""How long the master waits for a sign that Kong has got an answer that its worker was sending when it ended."""

AGAIN_SECONDS = 0.02
"""After this time a connection is offered again to workers that could not take it."""


class Holder(Protocol):
    """A worker, as far as its connections are concerned."""

    channel: socket.socket
    records: RecordTable
    held: dict[int, Held]
    """The connections that it has, by their descriptors there."""


class Held:
    """A connection."""

    __slots__ = (
        "due", "ends_at_request", "fd", "number", "outgoing", "owed", "socket", "stand_in", "token", "unsettled",
        "worker",
    )  # fmt: skip

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.fd = connection.fileno()
        self.worker: Holder | None = None
        """The worker that has it, or gets it by :attr:`token`; None where no worker does."""
        self.number = -1
        """Its descriptor there."""
        self.token = NEW
        self.owed = 0
        self.outgoing = bytearray()
        self.unsettled: Noted | None = None
        """The event whose answer Kong may have got or not."""
        self.due = 0.0
        """When an answer is made to that."""
        self.ends_at_request = False
        """Whether it is ended as soon as Kong uses it."""
        self.stand_in: StandIn | None = None
        """Reads the connection, while no worker does."""


class HeldConnections:
    """All connections of a server."""

    def __init__(self, answers: FailureAnswers, descriptors: int, workers: int = 1) -> None:
        """:param descriptors: how many this process may have open. It keeps some free, to start workers.

        :param workers: how many workers it has.
        """
        self._answers = answers
        self._most = max(descriptors - FREE_DESCRIPTORS - DESCRIPTORS_OF_WORKER * (workers - 1), 1)
        self._is_full = False
        self._epoll = select.epoll()
        self._by_fd: dict[int, Held] = {}
        self._tokens = itertools.count()
        self._passed_on: dict[int, Held] = {}
        """Those that a worker gets, by token."""
        self._waiting: deque[Held] = deque()
        """Those that wait for a worker."""
        self._unsettled: list[Held] = []
        self._stands_in = False
        self._is_ending = False
        self._pass_on_at = 0.0

    def fileno(self) -> int:
        """Give the descriptor that can be read while :meth:`serve` has something to do."""
        return self._epoll.fileno()

    def sockets(self) -> list[socket.socket]:
        """List the connections, which a forked worker must not keep."""
        return [held.socket for held in self._by_fd.values()]

    def close_epoll(self) -> None:
        """Close what a forked worker must not keep, beside the connections."""
        self._epoll.close()

    # What workers say

    def receive(self, worker: Holder) -> None:
        """Read what a worker says about its connections.

        :raises ConnectionError: it has closed its end.
        :raises WireError: it has sent something else.
        """
        while (said := receive_registered(worker.channel)) is not None:
            if said.token != NEW:
                self._note_passed_on(worker, said.token, said.number)
            elif said.duplicate is not None and self._has_room():
                self._give(self._hold(said.duplicate), worker, said.number)
            elif said.duplicate is not None:
                said.duplicate.close()

    def _has_room(self) -> bool:
        """Whether another connection can be held. For one that is not, nobody answers when its worker ends."""
        has_room = len(self._by_fd) < self._most
        if not has_room and not self._is_full:
            _log.error(
                "Kong has more than %d connections: if a worker ends, requests on further ones fail or pass as Kong "
                "decides; raise the limit of open files (ulimit -n)", self._most,
            )  # fmt: skip
        self._is_full = not has_room
        return has_room

    def _hold(self, connection: socket.socket) -> Held:
        held = Held(connection)
        self._by_fd[held.fd] = held
        self._epoll.register(held.fd, 0)  # its end is reported all the same
        return held

    def _note_passed_on(self, worker: Holder, token: int, number: int) -> None:
        held = self._passed_on.pop(token, None)
        if held is None:
            return
        held.token = NEW
        if number != REFUSED:
            self._give(held, worker, number)
        else:  # the worker has no free descriptor
            held.worker = None
            self._waiting.append(held)
            self._pass_on_at = time.monotonic() + AGAIN_SECONDS

    def _give(self, held: Held, worker: Holder, number: int) -> None:
        old = worker.held.pop(number, None)
        if old is not None:  # the worker has closed it; its end is not reported yet
            self._drop(old)
        held.worker, held.number = worker, number
        worker.held[number] = held

    # What Kong does

    def serve(self) -> None:
        """Close what Kong or a worker has closed, and read what nobody else reads."""
        for fd, events in self._epoll.poll(0):
            held = self._by_fd.get(fd)
            if held is None:
                continue
            if events & select.EPOLLOUT:
                self._send(held, b"")
            if events & select.EPOLLIN:
                self._read(held)
            elif events & (select.EPOLLHUP | select.EPOLLERR):
                self._drop(held)

    def _read(self, held: Held) -> None:
        stays = held.unsettled is not None or held.ends_at_request
        try:
            data = held.socket.recv(_CHUNK, socket.MSG_DONTWAIT | (socket.MSG_PEEK if stays else 0))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(held)
        elif stays and self._skip_owed(held, data):
            return
        elif held.unsettled is not None:  # Kong goes on with it, so it has got the answer
            self._unsettled.remove(held)
            held.unsettled = None
            self._wait_for_worker(held)
        elif held.ends_at_request and not is_msgpack(data.ljust(SNIFFED, b"\0")):
            self._end(held)
        elif held.ends_at_request:  # at a closed connection Kong would let the request pass
            held.ends_at_request = False
            self._stand_in_for(held)
        elif held.stand_in is not None:
            self._answer(held, held.stand_in, data)
        # Else it is a reply to a call of the handler, on a connection that Kong closes at the end of the request.

    @staticmethod
    def _skip_owed(held: Held, data: bytes) -> bool:
        """Read replies to calls of the last handler, which are empty frames; whether data was nothing else."""
        count = min(held.owed, len(data) // PREFIX_SIZE)
        if not count or data[: count * PREFIX_SIZE].strip(b"\0"):
            return False
        held.socket.recv(count * PREFIX_SIZE, socket.MSG_DONTWAIT)
        held.owed -= count
        return len(data) == count * PREFIX_SIZE

    def _answer(self, held: Held, stand_in: StandIn, data: bytes) -> None:
        try:
            answer = stand_in.feed(data)
        except WireError:
            self._end(held)
            return
        self._send(held, answer)
        if not self._stands_in:
            self._end_stand_in(held, stand_in)

    def _end_stand_in(self, held: Held, stand_in: StandIn) -> None:
        """Keep a connection for a worker again, if nothing of it is read that is not answered."""
        if stand_in.is_at_rest:
            held.owed = stand_in.owed
            self._wait_for_worker(held)

    # The end of a worker

    def worker_ended(self, worker: Holder) -> Counter[str]:
        """Answer the events of a worker that has ended, and keep its idle connections for other workers.

        :return: how many requests were answered, by phase.
        """
        with contextlib.suppress(ConnectionError, WireError):
            self.receive(worker)
        answered: Counter[str] = Counter()
        for number, held in worker.held.items():
            record = worker.records.of(number)
            assert record is not None
            noted = read_record(record)
            held.worker = None
            if noted.state in (PROTOBUF_EVENT, MSGPACK_EVENT):
                answered[noted.phase] += 1
            self._settle(held, noted)
        worker.held.clear()
        for token, held in list(self._passed_on.items()):
            if held.worker is worker:
                del self._passed_on[token]
                held.worker, held.token = None, NEW
                self._wait_for_worker(held)
        return answered

    def _settle(self, held: Held, noted: Noted) -> None:
        """Do with a connection what its state asks for."""
        held.owed = noted.owed
        if noted.state == IDLE:
            self._wait_for_worker(held)
        elif noted.state == PROTOBUF_EVENT:
            self._answer_protobuf_event(held, noted)
        elif noted.state in (MSGPACK_EVENT, MSGPACK_CALL):
            self._answer_msgpack(held, noted)
            self._wait_for_worker(held)
        elif noted.state in (PROTOBUF_ANSWER, MSGPACK_ANSWER):
            held.unsettled, held.due = noted, time.monotonic() + SETTLE_SECONDS
            self._unsettled.append(held)
            self._watch(held, select.EPOLLIN)
        elif noted.state in (MSGPACK_UNREAD, MSGPACK_CALL_UNREAD):
            self._answer_msgpack(held, noted)
            self._end_after_answer(held)
        else:  # a message was read or sent in part, or the call is answered by a closed connection
            self._end(held)

    def _answer_msgpack(self, held: Held, noted: Noted) -> None:
        if noted.state in (MSGPACK_CALL, MSGPACK_CALL_UNREAD):
            self._send(held, self._answers.msgpack_call(noted.request))
        else:
            self._send(held, self._answers.msgpack_event(noted.phase, noted.is_open, noted.request))

    def _answer_protobuf_event(self, held: Held, noted: Noted) -> None:
        self._send(held, self._answers.protobuf_event(noted.phase, noted.is_open, noted.sequence))
        if lets_pass(noted.phase, noted.is_open):  # replies may still come, and nobody knows how many
            self._end_after_answer(held)
        else:
            self._watch(held, select.EPOLLIN)  # Kong closes it at the end of the request

    def check_deadlines(self) -> None:
        """Make the answers that are due."""
        now = time.monotonic()
        while self._unsettled and self._unsettled[0].due <= now:
            held = self._unsettled.pop(0)
            noted, held.unsettled = held.unsettled, None
            if noted is not None and noted.state == MSGPACK_ANSWER:
                # At a closed connection Kong would let the request pass. If it has got the first answer, it closes the
                # connection at the second one.
                self._answer_msgpack(held, noted)
                self._wait_for_worker(held)
            else:
                self._end(held)

    def next_due(self) -> float | None:
        """When :meth:`check_deadlines` or :meth:`pass_on` is due; None where nothing waits."""
        dues = [self._unsettled[0].due] if self._unsettled else []
        if self._waiting and not self._stands_in:
            dues.append(time.monotonic() + AGAIN_SECONDS)
        return min(dues, default=None)

    # Connections without a worker

    def _wait_for_worker(self, held: Held) -> None:
        if self._stands_in:
            self._stand_in_for(held)
            return
        held.stand_in = None
        if self._is_ending:
            held.ends_at_request = True
            self._watch(held, select.EPOLLIN)
            return
        self._watch(held, 0)
        self._waiting.append(held)

    def pass_on(self, workers: Iterable[Holder]) -> None:
        """Give the connections that wait to workers that serve, those with the fewest connections first.

        :param workers: the workers that serve.
        """
        chosen = list(workers)
        while self._waiting and chosen and time.monotonic() >= self._pass_on_at:
            held = self._waiting.popleft()
            if self._by_fd.get(held.fd) is not held:  # Kong has closed it
                continue
            worker = min(chosen, key=lambda each: len(each.held))
            token = next(self._tokens) % 2**31
            if pass_on(worker.channel, held.socket, token, held.owed):
                held.worker, held.token = worker, token
                self._passed_on[token] = held
            else:
                self._waiting.appendleft(held)
                chosen.remove(worker)

    def stand_in(self) -> None:
        """Answer for the workers from now on: none serves."""
        self._stands_in = True
        self._place_waiting()

    def _place_waiting(self) -> None:
        """Do with the connections that wait what is done with such ones from now on."""
        waiting, self._waiting = self._waiting, deque()
        for held in waiting:
            if self._by_fd.get(held.fd) is held:  # Kong has not closed it
                self._wait_for_worker(held)

    def _stand_in_for(self, held: Held) -> None:
        held.stand_in = StandIn(self._answers, held.owed)
        self._watch(held, select.EPOLLIN)

    def adopt(self, connection: socket.socket) -> None:
        """Take a new connection while no worker serves."""
        if self._has_room():
            self._stand_in_for(self._hold(connection))
        else:
            connection.close()

    def stand_back(self) -> None:
        """End :meth:`stand_in`: a worker serves."""
        self._stands_in = False
        for held in self._by_fd.values():
            if held.stand_in is not None:
                self._end_stand_in(held, held.stand_in)

    def end_at_requests(self) -> None:
        """Wait for no worker from now on, since no other one is started: end a connection when Kong uses it again.

        An idle connection is not ended before, as far as there is time: Kong may take it at this moment.
        """
        self._is_ending = True
        self._place_waiting()

    @property
    def are_left(self) -> bool:
        """Whether there are connections."""
        return bool(self._by_fd)

    # A connection

    def _send(self, held: Held, data: bytes) -> None:
        """Send data, and keep what Kong does not read now."""
        held.outgoing += data
        try:
            while held.outgoing:
                del held.outgoing[: held.socket.send(held.outgoing, socket.MSG_DONTWAIT)]
        except BlockingIOError:
            self._watch(held, select.EPOLLIN | select.EPOLLOUT)
        except OSError:  # Kong has closed it
            held.outgoing.clear()
        else:
            self._watch(held, select.EPOLLIN)

    def _watch(self, held: Held, events: int) -> None:
        with contextlib.suppress(OSError):  # it is closed
            self._epoll.modify(held.fd, events | (select.EPOLLOUT if held.outgoing else 0))

    def _end_after_answer(self, held: Held) -> None:
        """Let Kong read the answer, and then the end; read what it still sends."""
        with contextlib.suppress(OSError):
            held.socket.shutdown(socket.SHUT_WR)
        self._watch(held, select.EPOLLIN)

    def _end(self, held: Held) -> None:
        """End a connection, for Kong as well."""
        with contextlib.suppress(OSError):
            held.socket.shutdown(socket.SHUT_RDWR)
        self._drop(held)

    def _drop(self, held: Held) -> None:
        """Forget a connection that has ended."""
        if self._by_fd.get(held.fd) is not held:
            return
        del self._by_fd[held.fd]
        self._passed_on.pop(held.token, None)
        if held.unsettled is not None:
            self._unsettled.remove(held)
            held.unsettled = None
        if held.worker is not None and held.worker.held.get(held.number) is held:
            del held.worker.held[held.number]
        with contextlib.suppress(OSError):
            self._epoll.unregister(held.fd)
        held.socket.close()
