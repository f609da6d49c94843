"""The line between a worker and its master: MessagePack-RPC, requests from the worker, notices from both."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from kong_pdk.server.instance_store import Content, WorkerState
from kong_pdk.server.instances import InstanceError
from kong_pdk.wire.msgpack_codec import Messages, Notification, Response, encode_notification, encode_request
from kong_pdk.wire.wire_errors import WireError

READY = "ready"
"""A worker serves; with the sentences about plugins that do not load."""
FAILED = "failed"
"""A worker has nothing to serve and ends; with the sentences that say why."""
KEEP = "keep"
"""The digest and content of an instance that Kong starts; answered by its id, which the worker holds from then on."""
FIND = "find"
"""The id of an instance; answered by its content, whose id the worker holds from then on, or nothing."""
RELEASE = "release"
"""A worker holds an id once less."""
CLOSE = "close"
"""A worker of Kong closed an instance, by its id; from a worker to the master, and from there to the others."""
DROP = "drop"
"""An instance has ended, by its id: the worker lets it go."""
PING = "ping"
"""A worker is to answer by PONG."""
PONG = "pong"
"""A worker is alive."""
WORKERS = "workers"
"""Which workers serve; answered by a :class:`~kong_pdk.server.instance_store.WorkerState` for each."""

_CHUNK = 64 * 1024
_ANSWER_SECONDS = 30.0


class ControlChannel:
    """The worker's end. At the other end are the :class:`~kong_pdk.server.instance_store.Contents` of all workers."""

    def __init__(
        self, connection: socket.socket, dropped: Callable[[int], object], closed: Callable[[int], object]
    ) -> None:
        """:param dropped: is called with the id of an instance that has ended.

        :param closed: with that of one which a worker of Kong has closed, by another worker.
        """
        self._connection = connection
        self._notices: Mapping[str, Callable[[Any], object]] = {DROP: dropped, CLOSE: closed, PING: self._pong}
        self._ids = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._abandoned: dict[int, tuple[str, tuple[object, ...]]] = {}
        self._sending = threading.Lock()

    def listen(self) -> None:
        """Take what the master says, on a thread of its own. At its end this process ends at once."""
        threading.Thread(target=self._listen, name="master", daemon=True).start()

    def keep(self, digest: bytes, content: Content) -> int:
        """See :class:`~kong_pdk.server.instance_store.Contents`."""
        return int(self._ask(KEEP, digest, *content))

    def find(self, id: int) -> Content | None:
        """See :class:`~kong_pdk.server.instance_store.Contents`."""
        content = self._ask(FIND, id)
        return Content(*content) if content else None

    def release(self, id: int) -> None:
        """See :class:`~kong_pdk.server.instance_store.Contents`."""
        self.tell(RELEASE, id)

    def close(self, id: int) -> None:
        """See :class:`~kong_pdk.server.instance_store.Contents`."""
        self.tell(CLOSE, id)

    def expire(self) -> list[int]:
        """Do nothing: the master does it, and says which instances have ended."""
        return []

    def next_due(self) -> None:
        """See :meth:`expire`."""

    def workers(self) -> list[WorkerState]:
        """See :class:`~kong_pdk.server.instance_store.Contents`."""
        return [WorkerState(*state) for state in self._ask(WORKERS)]

    def tell(self, label: str, args: object) -> None:
        """Send a notice."""
        self._send(encode_notification(label, args))

    def _ask(self, method: str, *args: object) -> Any:
        id = next(self._ids)
        future = self._waiting[id] = Future()
        try:
            self._send(encode_request(id, method, args))
            return future.result(_ANSWER_SECONDS)
        except BaseException as error:  # whatever strikes: what the master still gives is given back
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
        finally:  # deaf, this process is of no use
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
        """Hold no id that came too late for who asked for it."""
        if method == KEEP:
            self.release(int(result))
        elif method == FIND and result:
            self.tell(RELEASE, args[0])

    def _pong(self, _: object) -> None:
        self.tell(PONG, None)
