"""A file descriptor that is written to without ever waiting for its reader."""

from __future__ import annotations

import contextlib
import os
import select
import time

MAX_PENDING = 8 * 1024 * 1024
"""Bytes that wait for a slow reader; beyond, lines are dropped and counted."""

# A pipe that polls as writable takes this many bytes without blocking (POSIX: PIPE_BUF), so that the
# descriptor, which other processes may share, need not be made non-blocking.
_CHUNK = select.PIPE_BUF

_GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Output:
    """Holds what the reader has not taken yet; supervisord's loop gives it its turns to write."""

    def __init__(self, fd: int, max_pending: int = MAX_PENDING) -> None:
        """:param fd: stays open when this object is gone."""
        self.fd = fd
        self.dropped = 0
        self._max_pending = max_pending
        self._pending = bytearray()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, line: bytes) -> None:
        """Write a line as soon as the reader takes it, or drop it where too much waits already."""
        if len(self._pending) + len(line) > self._max_pending:
            self.flush()
        if len(self._pending) + len(line) > self._max_pending:
            self.dropped += 1
            return
        self._pending += line

    def flush(self, seconds: float = 0.0) -> bool:
        """Write what the reader takes now, or within some seconds.

        :return: whether nothing is left.
        """
        deadline = time.monotonic() + seconds
        while self._pending:
            ready = self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready:
                return False
            self._write_chunk(ready[0][1])
        return True

    def _write_chunk(self, events: int) -> None:
        if events & _GONE:
            # Nobody reads any more; what is written from now on is lost in the same way.
            self._pending.clear()
            return
        try:
            written = os.write(self.fd, self._pending[:_CHUNK])
        except BlockingIOError:
            return
        except OSError:
            written = len(self._pending)
        del self._pending[:written]

    # What follows is what supervisord's loop asks of everything that it watches.

    def readable(self) -> bool:
        """Never: it is written to only."""
        return False

    def writable(self) -> bool:
        """Whether to be called when the descriptor takes more."""
        return not self.flush()

    def handle_write_event(self) -> None:
        """Go on writing."""
        self.flush()

    def handle_error(self) -> None:
        """Nothing here raises."""


class Wakeup:
    """Ends supervisord's wait at once when a signal arrives, which Python itself would go on waiting through."""

    def __init__(self) -> None:
        """Make the pipe that ``signal.set_wakeup_fd`` writes to."""
        self.fd, self.write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self) -> None:
        """Close both ends."""
        os.close(self.fd)
        os.close(self.write_fd)

    def readable(self) -> bool:
        """Always."""
        return True

    def writable(self) -> bool:
        """Never."""
        return False

    def handle_read_event(self) -> None:
        """Forget the numbers of the signals: their handlers have run."""
        with contextlib.suppress(OSError):
            os.read(self.fd, 4096)

    def handle_error(self) -> None:
        """Nothing here raises."""
