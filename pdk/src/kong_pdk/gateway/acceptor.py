"""Accepts the connections of listening sockets and serves each in a task of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable

from kong_pdk.gateway.gateway_settings import Listener

Serve = Callable[[socket.socket], Awaitable[None]]

# Time before the next accept() when the process has no free file descriptor.
_PAUSE_SECONDS = 1.0
_CHUNK_BYTES = 65536


def bind(listener: Listener, settings: str) -> socket.socket:
    """A socket that is bound to the listener's address.

    :param settings: the variables that set the address, for the error message.
    :raises OSError: with the address and ``settings`` in its message.
    """
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    # asyncio turns off Nagle's algorithm only for sockets whose protocol is IPPROTO_TCP.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((listener.host, listener.port))
    except OSError as error:
        bound.close()
        reason = error.strerror or str(error)
        raise OSError(
            f"bind() to {listener.host}:{listener.port} failed ({error.errno}: {reason}); "
            f"stop the program that listens there, or change {settings}"
        ) from error
    return bound


class Acceptor:
    """Serves the connections of one bound socket. ``serve`` must close the connection that it gets."""

    def __init__(self, bound: socket.socket, backlog: int, serve: Serve) -> None:
        self._listening = bound
        self._serve = serve
        self.tasks: set[asyncio.Task[None]] = set()
        bound.setblocking(False)
        bound.listen(backlog)
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._watch()

    def close(self) -> None:
        """Accept the connections that wait, and no more; open ones stay open. A second call does nothing."""
        if self._pause is not None:
            self._pause.cancel()
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
            with contextlib.closing(self._listening), contextlib.suppress(OSError):
                while self._accept():  # the kernel resets what waits when the socket is closed
                    continue

    def _watch(self) -> None:
        self._loop.add_reader(self._listening, self._on_readable)

    def _on_readable(self) -> None:
        try:
            self._accept()  # one: other tasks run while many clients connect
        except OSError as error:
            self._loop.call_exception_handler({"message": "accept() failed; clients wait", "exception": error})
            self._loop.remove_reader(self._listening)
            self._pause = self._loop.call_later(_PAUSE_SECONDS, self._watch)

    def _accept(self) -> bool:
        """Accept a connection.

        :return: whether one was waiting.
        :raises OSError: no descriptor is free.
        """
        try:
            connection, _ = self._listening.accept()
        except BlockingIOError:
            return False
        except ConnectionError:  # the client closed it before it was accepted
            return True
        task = self._loop.create_task(self._serve_connection(connection))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return True

    async def _serve_connection(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._serve(connection)


def reset(connection: socket.socket) -> None:
    """Close the connection with a TCP reset, also if the other side has sent unread data."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


async def close_after_last_byte(connection: socket.socket, timeout: float) -> None:
    """Close the connection after the other side has received everything.

    Until the other side closes, for ``timeout`` seconds at most, its data is read and discarded: closing a socket with
    unread data resets the connection, and data on the way to the other side is lost.
    """
    loop = asyncio.get_running_loop()
    try:
        connection.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(_discard(loop, connection), timeout)
    except (OSError, asyncio.TimeoutError):
        return
    finally:
        connection.close()


async def _discard(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    while await loop.sock_recv(connection, _CHUNK_BYTES):
        continue
