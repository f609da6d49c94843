"""One form of log line for every program of the project, that of nginx's error log.

``2026/11/23 04:40:51 [error] py-hello: access handler raised ValueError: ...``
"""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING, TextIO

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


class LineFormatter(logging.Formatter):
    """Gives each line of a record, those of a traceback too, its time, level and program."""

    default_time_format = "%Y/%m/%d %H:%M:%S"
    default_msec_format = ""

    def __init__(self, program: str) -> None:
        """:param program: the name that stands behind the level."""
        super().__init__()
        self._program = program

    def format(self, record: logging.LogRecord) -> str:
        """Make the line, or lines, of a record."""
        # A server of several plugins names the one it speaks of; alone, that is the program's own name.
        text = _message(record).removeprefix(f"{self._program}: ")
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        if record.stack_info:
            text = f"{text}\n{record.stack_info}"
        start = f"{self.formatTime(record)} [{LEVELS.get(record.levelno, 'notice')}] {self._program}: "
        return "\n".join(start + line.translate(_ESCAPES) for line in text.splitlines() or [""])


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


def configure(program: str, verbose: bool = False, stream: TextIO | None = None) -> None:
    """Send what ``logging`` gets to standard error, in nginx's form. Called again, it replaces what it set.

    What a plugin prints leaves with the end of its line, and no character of a client's makes ``print`` fail.

    :param program: the name that stands behind the level.
    :param verbose: debug lines too.
    """
    global _handler
    target = stream or sys.stderr
    _make_tolerant(target)
    _make_tolerant(sys.stdout)
    _handler = _Handler(target)
    _handler.setFormatter(LineFormatter(program))
    root = logging.getLogger()
    for old in [known for known in root.handlers if isinstance(known, _Handler)]:
        root.removeHandler(old)
    root.addHandler(_handler)
    root.setLevel(logging.DEBUG if verbose else logging.INFO)


def _make_tolerant(stream: object) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace", line_buffering=True)


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
