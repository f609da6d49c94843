"""What the ``kong`` command prints, in the form of Kong's own command: results, and errors."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_LEVELS = ("quiet", "verbose", "debug")


class CommandError(Exception):
    """A message for the user; the command ends with exit code 1."""


class UsageError(CommandError):
    """The command line itself is wrong; its usage follows the message."""


class Console:
    """Plain lines on standard output; warnings and errors, with time and level, on standard error."""

    def __init__(self, level: str = "quiet") -> None:
        self._level = _LEVELS.index(level)

    @property
    def traces(self) -> bool:
        """Whether an error is shown with its traceback (``--v`` and ``--vv``)."""
        return self._level > 0

    def say(self, text: str) -> None:
        """Print a result, for people and scripts. As in Kong, it has time and level only in verbose mode."""
        if self._level:
            self._write(sys.stdout, "info", text)
        else:
            print(text, flush=True)

    def verbose(self, text: str) -> None:
        if self._level >= 1:
            self._write(sys.stdout, "verbose", text)

    def error(self, text: str) -> None:
        self._write(sys.stderr, "error", text)

    @staticmethod
    def _write(stream: TextIO, level: str, text: str) -> None:
        stamp = time.strftime("%Y/%m/%d %H:%M:%S")
        print(f"{stamp} [{level}] {text}", file=stream, flush=True)
