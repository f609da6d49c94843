"""One form of log line for every program of the project: that of nginx's error log, or JSON objects.

``2026/11/23 04:40:51 [error] py-hello: access handler raised ValueError: ...``
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from kong_pdk import json_log
from kong_pdk.exception_text import describe

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    # Python 3.10 cannot subscript it.
    _StreamHandler = logging.StreamHandler

NOTICE = 25
"""nginx's level between info and warn."""

LEVELS = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    NOTICE: "notice",
    logging.WARNING: "warn",
    logging.ERROR: "error",
    logging.CRITICAL: "crit",
}


# What a client sends gets into lines, and from there to somebody's terminal.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) != "\t"}

_handler: logging.Handler | None = None


class _Formatter(logging.Formatter):
    """What a record says, whatever the form of its lines."""

    default_time_format = "%Y/%m/%d %H:%M:%S"
    default_msec_format = ""

    def __init__(self, program: str) -> None:
        """:param program: the name that stands behind the level."""
        super().__init__()
        self._program = program

    def _text(self, record: logging.LogRecord) -> str:
        """Give the message, and the traceback below it."""
        # A server of several plugins names the one it speaks of; alone, that is the program's own name.
        text = _message(record).removeprefix(f"{self._program}: ")
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        if record.stack_info:
            text = f"{text}\n{record.stack_info}"
        return text


class LineFormatter(_Formatter):
    """Gives each line of a record, those of a traceback too, its time, level and program."""

    def format(self, record: logging.LogRecord) -> str:
        """Make the line, or lines, of a record."""
        start = f"{self.formatTime(record)} [{_level(record)}] {self._program}: "
        return "\n".join(start + line.translate(_ESCAPES) for line in self._text(record).splitlines() or [""])


class JsonFormatter(_Formatter):
    """Makes one JSON object of a record and its traceback, or several of one that is too long."""

    def format(self, record: logging.LogRecord) -> str:
        """Make the object, or objects, a line each."""
        time = json_log.timestamp(record.created)
        entry = json_log.Entry(time, _level(record), self._program, self._text(record))
        return "\n".join(json_log.encode(entry))


_FORMATTERS: Mapping[str, type[_Formatter]] = {"text": LineFormatter, "json": JsonFormatter}


def _level(record: logging.LogRecord) -> str:
    return LEVELS.get(record.levelno, "notice")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001  # a plugin's line whose arguments do not fit is not to be lost
        words = f'"{record.msg}"' if isinstance(record.msg, str) else f"a {type(record.msg).__name__}"
        return f"{words} cannot be logged: {describe(error)} ({record.pathname}:{record.lineno})"


class _Handler(_StreamHandler):
    """Writes to the stream; a reader that is gone must not end the program."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop the record: there is nowhere left to say so."""


def configure(program: str, verbose: bool = False, stream: TextIO | None = None, form: str = "text") -> None:
    """Send what ``logging`` gets to standard error. Called again, it replaces what it set.

    What a plugin prints leaves with the end of its line, and no character of a client's makes ``print`` fail.

    :param program: the name that stands behind the level.
    :param verbose: debug lines too.
    :param form: ``text``, which is nginx's, or ``json``.
    """
    global _handler
    target = stream or sys.stderr
    _make_tolerant(target)
    _make_tolerant(sys.stdout)
    _handler = _Handler(target)
    _handler.setFormatter(_FORMATTERS[form](program))
    root = logging.getLogger()
    for old in [known for known in root.handlers if isinstance(known, _Handler)]:
        root.removeHandler(old)
    root.addHandler(_handler)
    root.setLevel(logging.DEBUG if verbose else logging.INFO)


def _make_tolerant(stream: object) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace", line_buffering=True)


def name_worker(number: int) -> None:
    """Say in debug lines which of several workers they are of."""

    def name(record: logging.LogRecord) -> bool:
        if record.levelno == logging.DEBUG and isinstance(record.msg, str):
            record.msg = f"{record.msg}, of worker {number}"
        return True

    if _handler is not None:
        _handler.addFilter(name)


def restore() -> None:
    """Let the project's own lines out again, after code of a plugin that may have configured ``logging``.

    ``logging.config`` disables, unless told otherwise, every logger that there is, and the errors of plugins with it.
    """
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and name.partition(".")[0] == __package__:
            logger.disabled = False
    own = logging.getLogger(__package__)
    if _handler is not None and _handler not in [*logging.root.handlers, *own.handlers]:
        own.addHandler(_handler)
        own.propagate = False
        own.setLevel(logging.root.level if logging.root.level == logging.DEBUG else logging.INFO)


def report(log: logging.Logger, level: int, text: str, *args: object) -> None:
    """Log a line where nothing may fail: on the way of an event, a logging handler of the plugin's may raise anything.

    The line is on standard error even then.
    """
    try:
        log.log(level, text, *args)
    except BaseException as error:  # noqa: BLE001  # see above
        with contextlib.suppress(BaseException):
            line = f"{text % args if args else text}\n(a logging handler raised {describe(error)})\n"
            os.write(2, line.encode("utf-8", "backslashreplace"))


class Once:
    """Tells what has been said before, so that a fault that each request meets does not fill a disk."""

    def __init__(self, most: int = 1000) -> None:
        """:param most: how many texts to remember; those remembered longest are forgotten."""
        self._most = most
        self._said: dict[str, None] = {}
        self._lock = threading.Lock()

    def is_first(self, text: str) -> bool:
        """Whether a text is new; from now on it is not."""
        with self._lock:
            if text in self._said:
                return False
            self._said[text] = None
            if len(self._said) > self._most:
                del self._said[next(iter(self._said))]
            return True
