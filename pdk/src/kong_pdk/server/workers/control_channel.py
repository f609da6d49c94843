"""The control channel between a worker and its master: MessagePack-RPC.

The worker sends requests, and both send notifications.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from kong_pdk.server.instances import InstanceError
from kong_pdk.server.instances.instance_store import Content, WorkerState
from kong_pdk.wire.msgpack_codec import Messages, Notification, Response, encode_notification, encode_request
from kong_pdk.wire.wire_errors import WireError

READY = "ready"
"""Notification of a worker that serves, with the messages about plugins that do not load, notes about the others, and
the shortest and the longest timeout of these."""
FAILED = "failed"
"""Notification of a worker that has no plugin to serve and ends, with the messages about the plugins."""
STUCK = "stuck"
"""Notification that many handlers go on after their timeouts, so that the worker should be replaced; with whether one
of them holds up other events, so that it should end at once."""
KEEP = "keep"
"""Request with digest and content of an instance that Kong starts; answered by its id, which the worker now holds."""
FIND = "find"
"""Request with the id of an instance; answered by its content, and the worker holds the id, or by nil."""
RELEASE = "release"
"""Notification of a worker that gives back one hold of an id."""
CLOSE = "close"
"""Notification that Kong closed the instance of this id; the master forwards it to the other workers."""
DROP = "drop"
"""Notification of the master that the instance of this id has ended, so that the worker discards it."""
PING = "ping"
"""Notification of the master, which a worker answers by PONG."""
PONG = "pong"
"""Notification of a worker that is alive."""
BLOCKS = "blocks"
"""Notification that a plugin's handler of a phase holds the loop: the next workers run it on threads."""
WORKERS = "workers"
"""Request for a :class:`~kong_pdk.server.instances.instance_store.WorkerState` of each worker that serves."""

_CHUNK = 64 * 1024
_ANSWER_SECONDS = 30.0


class ControlChannel:
    """The worker's end of the control channel, and its store of instances: an ``InstanceStore``.

    The master has the table of instances, and answers for all workers.
    """

    def __init__(
        self, connection: socket.socket, dropped: Callable[[int], object], closed: Callable[[int], object]
    ) -> None:
        """:param dropped: is called with the id of an instance that has ended.

        :param closed: is called with the id of an instance that Kong closed by a call to another worker.
        """
        self._connection = connection
        self._notices: Mapping[str, Callable[[Any], object]] = {DROP: dropped, CLOSE: closed, PING: self._pong}
        self._ids = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._abandoned: dict[int, tuple[str, tuple[object, ...]]] = {}
        self._sending = threading.Lock()

    def listen(self) -> None:
        """Receive the master's messages on a thread of its own. When the master ends, this process ends at once."""
        threading.Thread(target=self._listen, name="master", daemon=True).start()

    def keep(self, digest: bytes, content: Content) -> int:
        """See :class:`~kong_pdk.server.instances.instance_store.InstanceStore`."""
        return int(self._ask(KEEP, digest, *content))

    def find(self, id: int) -> Content | None:
        """See :class:`~kong_pdk.server.instances.instance_store.InstanceStore`."""
        content = self._ask(FIND, id)
        return Content(*content) if content else None

    def release(self, id: int) -> None:
        """See :class:`~kong_pdk.server.instances.instance_store.InstanceStore`."""
        self.tell(RELEASE, id)

    def close(self, id: int) -> None:
        """See :class:`~kong_pdk.server.instances.instance_store.InstanceStore`."""
        self.tell(CLOSE, id)

    def expire(self) -> list[int]:
        """Return nothing: the master expires instances, and sends :data:`DROP` for each."""
        return []

    def next_due(self) -> None:
        """See :meth:`expire`."""

    def workers(self) -> list[WorkerState]:
        """See :class:`~kong_pdk.server.instances.instance_store.InstanceStore`."""
        return [WorkerState(*state) for state in self._ask(WORKERS)]

    def tell(self, label: str, args: object) -> None:
        """Send a notification.

        :raises InstanceError: the master is gone.
        """
        self._send(encode_notification(label, args))

    def _ask(self, method: str, *args: object) -> Any:
        id = next(self._ids)
        future = self._waiting[id] = Future()
        try:
            self._send(encode_request(id, method, args))
            return future.result(_ANSWER_SECONDS)
        except BaseException as error:  # of a handler's timer, for example: the id in a late answer is released
            self._abandoned[id] = method, args
            if isinstance(error, FutureTimeout):
                raise InstanceError(f"the master does not answer within {_ANSWER_SECONDS:g} s") from None
            raise
        finally:
            del self._waiting[id]

    def _send(self, data: bytes) -> None:
        try:
            with self._sending:
                self._connection.sendall(data)
        except OSError as error:
            raise InstanceError(f"the master cannot be reached: {error.strerror}") from error

    def _listen(self) -> None:
        messages = Messages()
        try:
            while data := self._connection.recv(_CHUNK):
                for message in messages.feed(data):
                    self._handle(message)
        except (OSError, WireError, InstanceError):
            pass
        finally:  # without its master this process must not go on
            os._exit(1)

    def _handle(self, message: object) -> None:
        if isinstance(message, Response):
            future = self._waiting.get(message.id)
            if future is not None:
                future.set_result(message.result)
            elif message.id in self._abandoned:
                self._release_late(*self._abandoned.pop(message.id), message.result)
        elif isinstance(message, Notification) and message.label in self._notices:
            self._notices[message.label](message.args)

    def _release_late(self, method: str, args: tuple[object, ...], result: Any) -> None:
        """Release the id in an answer that came after its request was abandoned."""
        if method == KEEP:
            self.release(int(result))
        elif method == FIND and result:
            self.tell(RELEASE, args[0])

    def _pong(self, _: object) -> None:
        self.tell(PONG, None)
