"""What an exception of a plugin says, as text for a log line."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

_WITHIN_A_COROUTINE = "it is called within a coroutine, which can await instead"
_ADVICE = {
    "asyncio.run() cannot be called from a running event loop": _WITHIN_A_COROUTINE,
    "Runner.run() cannot be called from a running event loop": _WITHIN_A_COROUTINE,
    "Cannot run the event loop while another loop is running": _WITHIN_A_COROUTINE,
    "This event loop is already running": "another request runs it; call asyncio.run in each handler, or run one loop "
    "in a thread of its own and give it coroutines by asyncio.run_coroutine_threadsafe",
    "There is no current event loop in thread": "call asyncio.run, or asyncio.new_event_loop",
}
_OF_ENGINE = '; if it is not, choose engine = "threads" in the module, or KONG_PYTHON_ENGINE=threads'


def describe(error: BaseException) -> str:
    """Give ``ValueError: text``, whatever the exception's own ``__str__`` does, and advice where asyncio raised it."""
    try:
        text = str(error)
    except BaseException as another:  # noqa: BLE001  # the author's code may raise anything
        text = f"(its __str__ raises {type(another).__name__})"
    advice = _advice(text) if type(error) is RuntimeError else ""
    return f"{type(error).__name__}: {text}{advice}" if text else type(error).__name__


def logged(begin: str, error: BaseException, place: Callable[[], str]) -> tuple[str, str]:
    """Make the log's text of an author's exception, at which nobody may be able to look.

    :param begin: the words in front of it: whose it is.
    :param place: gives ``FILE:LINE``, or nothing where that is not known.
    :return: the line, and the line with the traceback below it; as much of them as can be made.
    """
    line = text = f"{begin} raised {describe(error)}"
    with contextlib.suppress(BaseException):
        if where := place():
            line = text = f"{line} ({where})"
        text = f"{line}\n{''.join(traceback.format_exception(error)).rstrip()}"
    return line, text


def _advice(text: str) -> str:
    found = next((advice for start, advice in _ADVICE.items() if text.startswith(start)), None)
    if found is None:
        return ""
    monkey = sys.modules.get("gevent.monkey")
    on_gevent = found is _WITHIN_A_COROUTINE and monkey is not None and monkey.is_module_patched("threading")
    return f"; {found}{_OF_ENGINE if on_gevent else ''}"


def traceback_location(file: Path, error: BaseException) -> tuple[Path, int | None]:
    """The innermost line in a plugin's file, or in a file beside it, that ``error`` has passed.

    The plugin's file and None where it passed none.
    """
    found, line = file, None
    for frame, lineno in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if path == file or file.parent in path.parents:
            found, line = path, lineno
    return found, line
