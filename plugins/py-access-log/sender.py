"""The queue between requests and the collector, and the thread that empties it."""

from __future__ import annotations

import atexit
import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

from .collector import Collector
from .trouble import Trouble

FINISH_SECONDS = 2.5
"""How long a plugin server that ends still sends."""

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0
_HURRIED_WAIT_SECONDS = 0.2
_ENDED = "the plugin server ended before they were known to have arrived"


class Sender:
    """Sends lines to a collector in batches, from a thread that runs while there is something to send."""

    def __init__(self, collector: Collector, config: Mapping[str, Any]) -> None:
        """:param config: the plugin's configuration."""
        self._collector = collector
        self._batch_size, self._batch_bytes = int(config["batch_size"]), int(config["batch_bytes"])
        self._queue_size, self._queue_bytes = int(config["queue_size"]), int(config["queue_bytes"])
        self._flush_seconds = float(config["flush_seconds"])
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._in_hand = 0  # lines of the batch that is being sent
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._end: float | None = None  # when a server that ends gives up the rest of the queue
        self._trouble = Trouble(collector.name)
        _senders.add(self)

    def put(self, line: bytes) -> None:
        """Queue a line without waiting. A full queue loses its oldest lines."""
        with self._changed:
            self._lines.append(line)
            self._bytes += len(line)
            while len(self._lines) > self._queue_size or self._bytes > self._queue_bytes:
                self._bytes -= len(self._lines.popleft())
                self._trouble.lost(1, "the queue was full")
            if self._is_full():
                self._changed.notify()
            self._start()

    def _start(self) -> None:
        if self._thread is None and self._lines:
            thread = threading.Thread(target=self._run, name="py-access-log", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no more threads; the next line tries again
                self._trouble.fails(f"no thread can be started: {error}", len(self._lines))
            else:
                self._thread = thread

    def _is_full(self) -> bool:
        return len(self._lines) >= self._batch_size or self._bytes >= self._batch_bytes

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                if not self._send(batch):
                    return
        except BaseException as error:
            with self._changed:
                self._thread = None
                self._trouble.lost(self._in_hand, f"by a defect of the plugin: {error!r}")
                self._in_hand = 0
            raise

    def _next_batch(self) -> list[bytes]:
        """Wait for a batch. An empty batch ends the thread."""
        with self._changed:
            if self._lines:
                self._changed.wait_for(lambda: self._end is not None or self._is_full(), self._flush_seconds)
            batch: list[bytes] = []
            size = 0
            while self._lines and len(batch) < self._batch_size:
                size += len(self._lines[0])
                if batch and size > self._batch_bytes:
                    break
                batch.append(self._lines.popleft())
                self._bytes -= len(batch[-1])
            self._in_hand = len(batch)
            if not batch:
                self._thread = None
            return batch

    def _send(self, batch: list[bytes]) -> bool:
        """Send a batch until the collector accepts or refuses it.

        :return: False if the server ends before.
        """
        wait = _FIRST_WAIT_SECONDS
        while True:
            outcome = self._collector.post(batch, self._seconds_left())
            if outcome.too_large and len(batch) > 1:
                middle = len(batch) // 2
                return self._send(batch[:middle]) and self._send(batch[middle:])
            if not outcome.again:
                self._settle(batch, outcome.reason)
                return True
            self._trouble.fails(outcome.reason, len(self._lines) + self._in_hand)
            if not self._wait(max(outcome.wait_seconds, wait * random.uniform(0.5, 1))):
                return False
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _settle(self, batch: list[bytes], refused: str) -> None:
        with self._changed:
            self._in_hand -= len(batch)
        if refused:
            self._trouble.lost(len(batch), f"they were refused with {refused}")
        else:
            self._trouble.over()

    def _seconds_left(self) -> float | None:
        return None if self._end is None else self._end - time.monotonic()

    def _wait(self, seconds: float) -> bool:
        """Wait before the next try.

        :return: whether there is time for another try.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._end is not None, min(seconds, _LONGEST_WAIT_SECONDS))
        if self._end is None:
            return True
        time.sleep(_HURRIED_WAIT_SECONDS)
        return time.monotonic() < self._end

    def hurry(self, end: float) -> None:
        """Send the queue at once.

        :param end: when to give up, by ``time.monotonic``.
        """
        with self._changed:
            self._end = end
            self._changed.notify_all()
            self._start()

    def join(self) -> None:
        """Wait until the queue is sent, or until the end given to :meth:`hurry`; log how much is lost."""
        thread, end = self._thread, self._end
        if thread is not None and end is not None:
            thread.join(max(0.0, end - time.monotonic()))
        with self._changed:
            self._trouble.lost(len(self._lines) + self._in_hand, _ENDED)
        self._trouble.tell()


_senders: WeakSet[Sender] = WeakSet()


@atexit.register
def _finish() -> None:
    """Send the queues when the plugin server ends. Its handlers have ended before."""
    end = time.monotonic() + FINISH_SECONDS
    senders = list(_senders)
    for sender in senders:
        sender.hurry(end)
    for sender in senders:
        sender.join()
