"""Clients that send requests all the time, and note each answer."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

CLIENTS = 6
_TIMEOUT = 60
_PAUSE = 0.01
"""Between two requests of a client; else they would take the processors that the containers need."""


class Reply(NamedTuple):
    """An answer, or what a client got in its place."""

    began: float
    """When its request was sent, by ``time.monotonic``; :attr:`ended` is when the answer was there."""
    ended: float
    status: int
    """0 where there is no answer."""
    text: str
    """The body, or the error of the client."""


class Load:
    """Requests of several clients, each with a connection of its own."""

    def __init__(self, address: tuple[str, int], path: str) -> None:
        self._address = address
        self._path = path
        self.is_over = threading.Event()
        self.replies: list[Reply] = []

    def run(self) -> None:
        """Be one of the clients."""
        while not self.is_over.wait(_PAUSE):
            began = time.monotonic()
            status, text = self._request()
            self.replies.append(Reply(began, time.monotonic(), status, text))

    def _request(self) -> tuple[int, str]:
        connection = http.client.HTTPConnection(*self._address, timeout=_TIMEOUT)
        try:
            connection.request("GET", self._path, headers={"connection": "close"})
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error)
        finally:
            connection.close()


@contextmanager
def under_load(address: tuple[str, int], path: str = "/") -> Iterator[Load]:
    """Send requests during the block."""
    load = Load(address, path)
    clients = [threading.Thread(target=load.run) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield load
    finally:
        load.is_over.set()
        for client in clients:
            client.join()
