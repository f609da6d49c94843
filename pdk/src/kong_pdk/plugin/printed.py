"""What a plugin prints while it is loaded in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable

# Takes the plugin's name and what it printed; no bytes mean that this was all.
Take = Callable[[str, bytes], None]

_CHUNK = 65536


class Printed:
    """A pipe that stands where standard output and error are in the process that loads a plugin."""

    def __init__(self, name: str, take: Take) -> None:
        """Open the pipe. Raises OSError where there are no more descriptors."""
        self._name = name
        self._take = take
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)
        self._forked = False
        self.ended = False

    def fileno(self) -> int:
        return self._reading

    def read(self) -> bool:
        """Hand on what is there; whether there was something."""
        try:
            chunk = os.read(self._reading, _CHUNK)
        except BlockingIOError:
            return False
        self.ended = not chunk
        if chunk:
            self._take(self._name, chunk)
        return bool(chunk)

    def forked(self) -> None:
        """Close the end of the process that prints: this one only reads."""
        os.close(self.writing)
        self._forked = True

    def close(self) -> None:
        """Hand on the rest. Whoever still holds the other end writes to nobody from now on."""
        if not self._forked:
            os.close(self.writing)
        for _ in range(_CHUNK):
            if not self.read():
                break
        os.close(self._reading)
        self._take(self._name, b"")
