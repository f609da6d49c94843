"""One form of log line for every program of the project: that of nginx's error log, or JSON objects.

``2026/11/23 04:40:51 [error] py-hello: access handler raised ValueError: ...``

In a plugin server this log has two sources: the server's own loggers (``kong_pdk.*``), which no configuration of
``logging`` by a plugin reaches, and Python's ``logging`` as the plugin uses it. The log is no handler of the root
logger, so a plugin's ``logging.basicConfig`` and ``dictConfig`` work as in any program; a line that a handler of the
plugin's writes to standard output or error is not repeated.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from kong_pdk import json_log
from kong_pdk.exception_text import describe

NOTICE = 25
"""nginx's level between info and warn."""

LEVELS = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    NOTICE: "notice",
    logging.WARNING: "warn",
    logging.ERROR: "error",
    logging.CRITICAL: "crit",
    60: "alert",
    70: "emerg",
}

_NUMBERS = {name: number for number, name in LEVELS.items()}

# What a client sends gets into lines, and from there to somebody's terminal.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) != "\t"}

_STANDARD_LIBRARY = Path(os.__file__).parent


class _Formatter(logging.Formatter):
    """What a record says, whatever the form of its lines."""

    default_time_format = "%Y/%m/%d %H:%M:%S"
    default_msec_format = ""

    worker: int | None = None
    """The number of the worker that debug lines name, where there are several."""

    def __init__(self, program: str) -> None:
        """:param program: the name that stands behind the level."""
        super().__init__()
        self._program = program

    def format(self, record: logging.LogRecord) -> str:
        """Make the line, or lines, of a record."""
        return self.lines(record, self._text(record))

    def lines(self, record: logging.LogRecord, text: str) -> str:
        """Give a text the form of the log, with the record's time and level."""
        raise NotImplementedError

    def _text(self, record: logging.LogRecord) -> str:
        """Give the message, and the traceback below it."""
        # A server of several plugins names the one it speaks of; alone, that is the program's own name.
        text = _message(record).removeprefix(f"{self._program}: ")
        if self.worker is not None and record.levelno <= logging.DEBUG:
            text = f"{text}, of worker {self.worker}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        if record.stack_info:
            text = f"{text}\n{record.stack_info}"
        return text


class LineFormatter(_Formatter):
    """Gives each line of a record, those of a traceback too, its time, level and program."""

    def lines(self, record: logging.LogRecord, text: str) -> str:
        """Give each line of a text its time, level and program."""
        start = f"{self.formatTime(record)} [{_level_name(record.levelno)}] {self._program}: "
        return "\n".join(start + line.translate(_ESCAPES) for line in text.splitlines() or [""])


class JsonFormatter(_Formatter):
    """Makes one JSON object of a record and its traceback, or several of one that is too long."""

    def lines(self, record: logging.LogRecord, text: str) -> str:
        """Make the object, or objects, a line each."""
        time = json_log.timestamp(record.created)
        return "\n".join(json_log.encode(json_log.Entry(time, _level_name(record.levelno), self._program, text)))


_FORMATTERS: Mapping[str, type[_Formatter]] = {"text": LineFormatter, "json": JsonFormatter}


def _level_name(number: int) -> str:
    """Name the highest of nginx's levels that is not above one of Python's."""
    return next((name for each, name in reversed(LEVELS.items()) if each <= number), "debug")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001  # a plugin's line whose arguments do not fit is not to be lost
        words = f'"{record.msg}"' if isinstance(record.msg, str) else f"a {type(record.msg).__name__}"
        return f"{words} cannot be logged: {describe(error)} ({record.pathname}:{record.lineno})"


class _Output(logging.Handler):
    """The program's log. It is in no logger's list of handlers, where a plugin could remove it."""

    def __init__(self, stream: TextIO, form: _Formatter, level: int) -> None:
        super().__init__(level)
        self.stream = stream
        self.form = form

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record, unless its level is too low."""
        return self.show(record)

    def show(self, record: logging.LogRecord, formatter: logging.Formatter | None = None) -> bool:
        """Write a record, with the text that a formatter makes of it.

        The lock is held for the writing alone: the ``__str__`` of a plugin's argument may do anything.
        """
        if record.levelno < self.level:
            return False
        try:
            lines = self.form.lines(record, formatter.format(record)) if formatter else self.form.format(record)
        except Exception:  # noqa: BLE001  # a format that asks for what the record does not have, for example
            lines = self.form.lines(record, _message(record))
        with contextlib.suppress(OSError, ValueError):  # a reader that is gone must not end the program
            self.acquire()
            try:
                self.stream.write(f"{lines}\n")
                self.stream.flush()
            finally:
                self.release()
        return True


_output: _Output | None = None
_observing = threading.local()


class _Console(logging.Handler):
    """What ``logging.basicConfig`` without a file gives the root logger: the program's log, in the format asked for."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record."""
        return _output is not None and _output.show(record, self.formatter)


class _OwnLogger(logging.Logger):
    """A logger of the server: nothing that a plugin does to ``logging`` keeps its lines from the log."""

    @property
    def disabled(self) -> bool:
        """Never: ``logging.config`` disables, unless told otherwise, every logger that there is."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        """Ignore it."""

    def isEnabledFor(self, level: int) -> bool:
        """Whether the log shows this level, whatever ``logging.disable`` and ``setLevel`` say."""
        return super().isEnabledFor(level) if _output is None else level >= _output.level

    def makeRecord(  # noqa: PLR0913, PLR0917
        self, name: str, level: int, fn: str, lno: int, msg: object, args: Any, exc_info: Any,
        func: str | None = None, extra: Mapping[str, object] | None = None, sinfo: str | None = None,
    ) -> logging.LogRecord:  # fmt: skip
        """Make a record by Python's own class: a plugin may have set another factory."""
        record = logging.LogRecord(name, level, fn, lno, msg, args, exc_info, func, sinfo)
        record.__dict__.update(extra or {})
        return record

    def handle(self, record: logging.LogRecord) -> None:
        """Write a record to the log, and to no handler of a plugin's, which may raise or call Kong."""
        if _output is None:
            super().handle(record)
            return
        _output.handle(record)
        if logging.Logger.callHandlers is not _call_handlers:
            self._let_observe(record)

    def _let_observe(self, record: logging.LogRecord) -> None:
        """Show a record to a library that stands in for ``Logger.callHandlers`` to report errors, as Sentry's does."""
        if getattr(_observing, "now", False):  # what it does makes lines of its own
            return
        _observing.now = True
        try:
            logging.Logger.callHandlers(self, record)
        except Exception:  # noqa: BLE001  # the record is in the log
            pass
        finally:
            _observing.now = False


def configure(
    program: str, verbose: bool = False, stream: TextIO | None = None, form: str = "text", level: str = "info"
) -> None:
    """Send this program's lines, and what plugins log, to standard error. Called again, it replaces what it set.

    What a plugin prints leaves with the end of its line, and no character of a client's makes ``print`` fail.

    :param program: the name that stands behind the level.
    :param verbose: debug lines too, whatever the level.
    :param form: ``text``, which is nginx's, or ``json``.
    :param level: the least level that is shown, by nginx's name.
    """
    global _output
    target = stream or sys.stderr
    _make_tolerant(target)
    _make_tolerant(sys.stdout)
    least = logging.DEBUG if verbose else _NUMBERS[level]
    root = logging.getLogger()
    # A plugin's own file has been run as far as the call that brings it here, and may have set another level.
    if root.level == (logging.WARNING if _output is None else _output.level):
        root.setLevel(least)
    _output = _Output(target, _FORMATTERS[form](program), least)
    logging.Logger.callHandlers = _call_handlers  # type: ignore[assignment]
    logging.basicConfig = _basic_config
    logging.lastResort = logging.NullHandler()  # what nobody handles is shown below
    restore()


def _make_tolerant(stream: object) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace", line_buffering=True)


def name_worker(number: int) -> None:
    """Say in debug lines which of several workers they are of."""
    if _output is not None:
        _output.form.worker = number


def restore() -> None:
    """Take loggers of the server that were made since the last call out of a plugin's reach."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if type(logger) is logging.Logger and _is_own(name):
            logger.__dict__.pop("disabled", None)
            logger.__class__ = _OwnLogger


def _is_own(name: str) -> bool:
    return name.partition(".")[0] == __package__


_call_python_s_handlers = logging.Logger.callHandlers
_python_s_basic_config = logging.basicConfig


def _call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
    """Stand in for ``Logger.callHandlers``: after the handlers of a plugin comes the program's log."""
    if _output is not None and _is_own(record.name):
        if not isinstance(logger, _OwnLogger):
            _output.handle(record)
        return
    try:
        _call_python_s_handlers(logger, record)
    finally:
        if _output is not None and record.levelno >= _output.level and _is_missing(logger, record):
            _output.handle(record)


def _is_missing(logger: logging.Logger, record: logging.LogRecord) -> bool:
    """Whether the log is to have a record that the handlers of a plugin have taken."""
    handled = False
    for each in _way_to_root(logger):
        for handler in each.handlers:
            stream = getattr(handler, "stream", None)
            if isinstance(handler, _Console) or (record.levelno >= handler.level and _is_standard(stream)):
                return False
            handled = True
        if not each.propagate and each.parent is not None:
            return not handled and record.levelno >= logging.WARNING  # as without any configuration
    return record.levelno >= logging.INFO or not _is_chatter(logger, record)


def _way_to_root(logger: logging.Logger) -> Iterator[logging.Logger]:
    each: logging.Logger | None = logger
    while each is not None:
        yield each
        each = each.parent


def _is_standard(stream: object) -> bool:
    """Whether a stream is standard output or error, and so leads to where the log is."""
    standard = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return stream is not None and any(stream is each for each in standard)


def _is_chatter(logger: logging.Logger, record: logging.LogRecord) -> bool:
    """Whether a debug line is a library's, of which the plugin did not ask for any by setting a level."""
    asked = any(each.level for each in _way_to_root(logger) if each.parent is not None)
    return not asked and _is_of_library(record.pathname)


@functools.lru_cache(maxsize=1024)
def _is_of_library(file: str) -> bool:
    """Whether a source file is of Python itself or of an installed package."""
    path = Path(file)
    folders = [Path(folder) for folder in sys.path if folder and path.is_relative_to(folder)]
    home = max(folders, key=lambda folder: len(folder.parts), default=None)
    return home is not None and (home == _STANDARD_LIBRARY or any(home.glob("*.dist-info")))


def _basic_config(**options: Any) -> None:
    """Stand in for ``logging.basicConfig``: what it would write to standard error goes to the program's log."""
    if _output is None:
        _python_s_basic_config(**options)
        return
    if not options:  # by logging.info() and its sisters, most of all; their lines are in the log without it
        return
    root = logging.getLogger()
    known = list(root.handlers)
    stream = options.get("stream")
    elsewhere = bool(options.get("filename")) or options.get("handlers") is not None
    if elsewhere or (stream is not None and not _is_standard(stream)):
        _python_s_basic_config(**options)
    else:
        _basic_config_of_console(options)
    if known and root.handlers == known and options != _last_options:
        _say_once(
            "logging.basicConfig has no effect: the root logger has a handler already; give it force=True, or add a "
            "handler to a logger of the plugin's own"
        )
    _last_options.clear()
    _last_options.update(options)


def _basic_config_of_console(options: Mapping[str, Any]) -> None:
    assert _output is not None
    root = logging.getLogger()
    console = _Console()
    given = {name: value for name, value in options.items() if name not in ("stream", "filename", "filemode")}
    _python_s_basic_config(**given, handlers=[console])
    if not {"format", "datefmt", "style"} & options.keys():
        console.setFormatter(None)
    if console in root.handlers and root.level < _output.level:
        asked, shown = _level_name(root.level), _level_name(_output.level)
        _say_once(
            f"logging.basicConfig asks for level {asked}, and the log shows {shown} and above; set "
            f"KONG_PYTHON_LOG_LEVEL={asked} to see more"
        )


_last_options: dict[str, Any] = {}
_said: set[str] = set()


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        logging.getLogger(__name__).log(NOTICE, "%s", text)


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


_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+")


class Once:
    """Tells what has been said before, so that a fault that each request meets does not fill a disk."""

    def __init__(self, most: int = 1000) -> None:
        """:param most: how many texts to remember; those remembered longest are forgotten."""
        self._most = most
        self._said: dict[str, None] = {}
        self._lock = threading.Lock()

    def is_first(self, text: str) -> bool:
        """Whether a text is new; from now on it is not. Texts that differ in numbers and addresses alone are one."""
        plain = _NUMBER.sub("#", text)
        with self._lock:
            if plain in self._said:
                return False
            self._said[plain] = None
            if len(self._said) > self._most:
                del self._said[next(iter(self._said))]
            return True

    def forget(self) -> None:
        """Let everything be new again."""
        with self._lock:
            self._said.clear()
