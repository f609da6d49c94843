"""The log of every program of the project, in the form of nginx's error log or as JSON objects.

``2026/11/23 04:40:51 [error] py-hello: access handler raised ValueError: ...``

In a plugin server this log has two sources: the server's own loggers (``kong_pdk.*``), which no configuration of
``logging`` by a plugin affects, and the plugin's use of Python's ``logging``. Secrets that the process knows are masked
in both. The log is not a handler of the root logger, so a plugin's ``logging.basicConfig`` and ``dictConfig`` work as
in any program. A line that a handler of the plugin writes to standard output or error is not repeated.
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
from types import TracebackType
from typing import Any, TextIO

from kong_pdk import json_log
from kong_pdk.exception_text import describe
from kong_pdk.masking import without_secrets

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

# Control characters, which clients could send to the terminal of a reader of the log.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) != "\t"}

_STANDARD_LIBRARY = Path(os.__file__).parent


class _Formatter(logging.Formatter):
    """The base of the log's formatters, which makes the text of a record."""

    default_time_format = "%Y/%m/%d %H:%M:%S"
    default_msec_format = ""

    worker: int | None = None
    """The number of the worker that debug lines name; None without several workers."""

    def __init__(self, program: str) -> None:
        """:param program: the name behind the level."""
        super().__init__()
        self._program = program

    def lines(self, record: logging.LogRecord, text: str) -> str:
        """Make log lines of a text, with the record's time and level."""
        raise NotImplementedError

    def format(self, record: logging.LogRecord) -> str:
        """Make the lines of a record."""
        return self.lines(record, self.text(record))

    def text(self, record: logging.LogRecord) -> str:
        """Give the message with the traceback below it."""
        # Messages begin with the plugin's name, which a server of a single plugin has as its program's name already.
        text = _message(record).removeprefix(f"{self._program}: ")
        if self.worker is not None and record.levelno <= logging.DEBUG:
            text = f"{text}, of worker {self.worker}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        if record.stack_info:
            text = f"{text}\n{record.stack_info}"
        return text


class LineFormatter(_Formatter):
    """Puts time, level and program before each line of a record and its traceback."""

    def lines(self, record: logging.LogRecord, text: str) -> str:
        """Put time, level and program before each line of a text."""
        start = f"{self.formatTime(record)} [{_level_name(record.levelno)}] {self._program}: "
        return "\n".join(start + line.translate(_ESCAPES) for line in text.splitlines() or [""])


class JsonFormatter(_Formatter):
    """Makes a JSON object of a record and its traceback, or several objects of a long one."""

    def lines(self, record: logging.LogRecord, text: str) -> str:
        """Make a line for each object."""
        time = json_log.timestamp(record.created)
        return "\n".join(json_log.encode(json_log.Entry(time, _level_name(record.levelno), self._program, text)))


_FORMATTERS: Mapping[str, type[_Formatter]] = {"text": LineFormatter, "json": JsonFormatter}


def _level_name(number: int) -> str:
    """Give the highest level of nginx that is not above a level of Python."""
    return next((name for each, name in reversed(LEVELS.items()) if each <= number), "debug")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001  # a plugin's line with wrong arguments must not be lost
        words = f'"{record.msg}"' if isinstance(record.msg, str) else f"a {type(record.msg).__name__}"
        return f"{words} cannot be logged: {describe(error)} ({record.pathname}:{record.lineno})"


class _Output(logging.Handler):
    """The program's log. No logger has it among its handlers, where a plugin could remove it."""

    def __init__(self, stream: TextIO, form: _Formatter, level: int) -> None:
        super().__init__(level)
        self._writing = threading.RLock()
        os.register_at_fork(after_in_child=self._make_lock)
        self.stream = stream
        self.form = form

    def _make_lock(self) -> None:
        """Make a new lock in a fork: another thread may have held the old one at that moment."""
        self._writing = threading.RLock()

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record, unless its level is too low."""
        return self.show(record)

    def show(self, record: logging.LogRecord, formatter: logging.Formatter | None = None) -> bool:
        """Write a record, unless its level is too low.

        The lock is held only for the writing, since the text may run the plugin's code (``__str__`` of an argument).

        :param formatter: makes the text of the record; None for the program's own.
        :return: whether the record was written.
        """
        if record.levelno < self.level:
            return False
        try:
            text = formatter.format(record) if formatter else self.form.text(record)
        except Exception:  # noqa: BLE001  # for example a format with a field that the record does not have
            text = _message(record)
        lines = self.form.lines(record, without_secrets(text))
        # A closed stream must not end the program. The lock is taken by `with` alone: between acquire() and `try` an
        # exception from outside could leave it held for good.
        with contextlib.suppress(OSError, ValueError), self._writing:
            self.stream.write(f"{lines}\n")
            self.stream.flush()
        return True


_output: _Output | None = None
_observing = threading.local()


class _Console(logging.Handler):
    """The root logger's handler after ``logging.basicConfig`` without a file: writes to the program's log."""

    def handle(self, record: logging.LogRecord) -> bool:
        return _output is not None and _output.show(record, self.formatter)


class _OwnLogger(logging.Logger):
    """A logger of the server. A plugin's configuration of ``logging`` does not affect its lines."""

    @property
    def disabled(self) -> bool:
        """Always False: ``logging.config`` disables existing loggers by default."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass

    def isEnabledFor(self, level: int) -> bool:
        """Whether the log shows this level, whatever ``logging.disable`` and ``setLevel`` say."""
        return super().isEnabledFor(level) if _output is None else level >= _output.level

    def makeRecord(  # noqa: PLR0913, PLR0917
        self, name: str, level: int, fn: str, lno: int, msg: object, args: Any, exc_info: Any,
        func: str | None = None, extra: Mapping[str, object] | None = None, sinfo: str | None = None,
    ) -> logging.LogRecord:  # fmt: skip
        """Make a record of Python's own class, even where a plugin has set another factory."""
        record = logging.LogRecord(name, level, fn, lno, msg, args, exc_info, func, sinfo)
        record.__dict__.update(extra or {})
        return record

    def handle(self, record: logging.LogRecord) -> None:
        """Write a record to the log only, since a plugin's handlers may raise or call Kong."""
        if _output is None:
            super().handle(record)
            return
        _output.handle(record)
        if logging.Logger.callHandlers is not _call_handlers:
            self._let_observe(record)

    def _let_observe(self, record: logging.LogRecord) -> None:
        """Pass a record to a library that has replaced ``Logger.callHandlers`` to report errors, such as Sentry's."""
        if getattr(_observing, "now", False):  # the library logs lines of its own
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
    """Send the lines of this program and of plugins to standard error. A further call replaces the settings.

    Standard output becomes line-buffered, and escapes characters that it cannot encode.

    :param program: the name behind the level.
    :param verbose: show debug lines, whatever the level.
    :param stream: the log's stream; None for standard error.
    :param form: ``text``, the form of nginx, or ``json``.
    :param level: the lowest level that is shown, by nginx's name.
    """
    global _output
    target = stream or sys.stderr
    _make_tolerant(target)
    _make_tolerant(sys.stdout)
    least = logging.DEBUG if verbose else _NUMBERS[level]
    root = logging.getLogger()
    # A plugin's own file, which calls this as it starts its server, may have set another level before.
    if root.level == (logging.WARNING if _output is None else _output.level):
        root.setLevel(least)
    _output = _Output(target, _FORMATTERS[form](program), least)
    logging.Logger.callHandlers = _call_handlers  # type: ignore[assignment]
    logging.basicConfig = _basic_config
    logging.lastResort = logging.NullHandler()  # _call_handlers shows lines without a handler
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _log_error_of_thread
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _log_last_error
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _log_ignored_error
    restore()


def _log_error_of_thread(arguments: threading.ExceptHookArgs) -> None:
    """Replace ``threading.excepthook``, which writes a traceback without the log's form, and with secrets in it."""
    error, name = arguments.exc_value, arguments.thread.name if arguments.thread else "that has ended"
    if error is not None and not isinstance(error, SystemExit):
        log_error(f"the thread {name}", error)


def log_error(what: str, error: BaseException) -> None:
    """Log an exception that nobody handles, which Python and gevent write to standard error themselves."""
    with contextlib.suppress(Exception):  # the process ends, and logging with it
        exc_info = (type(error), error, error.__traceback__)
        logging.getLogger(__name__).error("%s raised %s", what, describe(error), exc_info=exc_info)


def _log_last_error(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Replace ``sys.excepthook``, for the same reasons."""
    if isinstance(error, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
    else:
        log_error("the process ends: its code", error)


def _log_ignored_error(arguments: sys.UnraisableHookArgs) -> None:
    """Replace ``sys.unraisablehook``, which writes what ``__del__`` and functions of ``atexit`` raise."""
    if arguments.exc_value is not None:
        name = getattr(arguments.object, "__qualname__", type(arguments.object).__name__)
        log_error(f"{name}, whose exceptions are ignored,", arguments.exc_value)


def _make_tolerant(stream: object) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace", line_buffering=True)


def name_worker(number: int) -> None:
    """Name the worker in debug lines.

    :param number: the number of the worker, from 1.
    """
    if _output is not None:
        _output.form.worker = number


def restore() -> None:
    """Protect loggers of the server that were made since the last call from a plugin's configuration."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if type(logger) is logging.Logger and _is_own(name):
            logger.__dict__.pop("disabled", None)
            logger.__class__ = _OwnLogger


def _is_own(name: str) -> bool:
    return name.partition(".")[0] == __package__


_original_call_handlers = logging.Logger.callHandlers
_original_basic_config = logging.basicConfig


def _call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
    """Replace ``Logger.callHandlers``: call the plugin's handlers, then write to the program's log."""
    if _output is not None and _is_own(record.name):
        if not isinstance(logger, _OwnLogger):
            _output.handle(record)
        return
    try:
        _original_call_handlers(logger, record)
    finally:
        if _output is not None and record.levelno >= _output.level and _is_missing(logger, record):
            _output.handle(record)


def _is_missing(logger: logging.Logger, record: logging.LogRecord) -> bool:
    """Whether a record, which the plugin's handlers have handled, must also go to the log."""
    handled = False
    for each in _ancestors(logger):
        for handler in each.handlers:
            stream = getattr(handler, "stream", None)
            if isinstance(handler, _Console) or (record.levelno >= handler.level and _is_standard(stream)):
                return False
            handled = True
        if not each.propagate and each.parent is not None:
            return not handled and record.levelno >= logging.WARNING  # as without any configuration
    return record.levelno >= logging.INFO or not _is_library_debug(logger, record)


def _ancestors(logger: logging.Logger) -> Iterator[logging.Logger]:
    each: logging.Logger | None = logger
    while each is not None:
        yield each
        each = each.parent


def _is_standard(stream: object) -> bool:
    """Whether a stream is standard output or error, which is where the log is."""
    standard = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return stream is not None and any(stream is each for each in standard)


def _is_library_debug(logger: logging.Logger, record: logging.LogRecord) -> bool:
    """Whether a debug line comes from a library, and the plugin set no level to see it."""
    has_level = any(each.level for each in _ancestors(logger) if each.parent is not None)
    return not has_level and _is_of_library(record.pathname)


@functools.lru_cache(maxsize=1024)
def _is_of_library(file: str) -> bool:
    """Whether a source file belongs to Python itself or to an installed package."""
    path = Path(file)
    folders = [Path(folder) for folder in sys.path if folder and path.is_relative_to(folder)]
    home = max(folders, key=lambda folder: len(folder.parts), default=None)
    return home is not None and (home == _STANDARD_LIBRARY or any(home.glob("*.dist-info")))


def _basic_config(**options: Any) -> None:
    """Replace ``logging.basicConfig``: lines for standard error go to the program's log."""
    if _output is None:
        _original_basic_config(**options)
        return
    if not options:  # mostly called by logging.info() and the like, whose lines are in the log anyway
        return
    root = logging.getLogger()
    known = list(root.handlers)
    stream = options.get("stream")
    elsewhere = bool(options.get("filename")) or options.get("handlers") is not None
    if elsewhere or (stream is not None and not _is_standard(stream)):
        _original_basic_config(**options)
    else:
        _basic_config_of_console(options)
    if known and root.handlers == known and options != _last_options:
        _log_once(
            "logging.basicConfig has no effect: the root logger has a handler already; give it force=True, or add a "
            "handler to a logger of the plugin's own"
        )
    _last_options.clear()
    _last_options.update(options)


def _basic_config_of_console(options: Mapping[str, Any]) -> None:
    assert _output is not None
    root = logging.getLogger()
    console = _Console()
    others = {name: value for name, value in options.items() if name not in ("stream", "filename", "filemode")}
    _original_basic_config(**others, handlers=[console])
    if not {"format", "datefmt", "style"} & options.keys():
        console.setFormatter(None)
    if console in root.handlers and root.level < _output.level:
        requested, shown = _level_name(root.level), _level_name(_output.level)
        _log_once(
            f"logging.basicConfig asks for level {requested}, and the log shows {shown} and above; set "
            f"KONG_PYTHON_LOG_LEVEL={requested} to see more"
        )


_last_options: dict[str, Any] = {}
_logged: set[str] = set()


def _log_once(text: str) -> None:
    if text not in _logged:
        _logged.add(text)
        logging.getLogger(__name__).log(NOTICE, "%s", text)


def report(log: logging.Logger, level: int, text: str, *args: object) -> None:
    """Log a line while an event is served, where nothing may raise: a plugin's logging handler may raise anything.

    The line then goes to standard error.
    """
    try:
        log.log(level, text, *args)
    except BaseException as error:  # noqa: BLE001  # see above
        with contextlib.suppress(BaseException):
            line = f"{without_secrets(text % args if args else text)}\n(a logging handler raised {describe(error)})\n"
            os.write(2, line.encode("utf-8", "backslashreplace"))


_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+")


class Once:
    """Remembers texts, so that an error that each request repeats is logged once, and does not fill a disk."""

    def __init__(self, most: int = 1000) -> None:
        """:param most: how many texts to remember; the oldest are forgotten."""
        self._most = most
        self._seen: dict[str, None] = {}
        self._lock = threading.Lock()

    def is_first(self, text: str) -> bool:
        """Whether a text is new, and remember it. Texts that differ only in numbers are the same."""
        plain = _NUMBER.sub("#", text)
        with self._lock:
            if plain in self._seen:
                return False
            self._seen[plain] = None
            if len(self._seen) > self._most:
                del self._seen[next(iter(self._seen))]
            return True

    def forget(self) -> None:
        """Forget all texts."""
        with self._lock:
            self._seen.clear()
