"""Log texts for exceptions of plugins."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType

from kong_pdk.masking import without_secrets

_OURS = f"{Path(__file__).parent}{os.sep}"
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
    """Give ``ValueError: text``, even where the exception's ``__str__`` raises, and advice for errors of asyncio.

    Secrets that this process knows are masked.
    """
    try:
        text = str(error)
    except BaseException as another:  # noqa: BLE001  # the author's code may raise anything
        text = f"(its __str__ raises {type(another).__name__})"
    advice = _advice(text) if type(error) is RuntimeError else ""
    return f"{type(error).__name__}: {without_secrets(text)}{advice}" if text else type(error).__name__


def log_text(begin: str, error: BaseException, place: Callable[[], str]) -> tuple[str, str]:
    """Make the log text of an author's exception. Raises nothing, whatever the exception's own code does.

    :param begin: the beginning of the line, which names the plugin and its function.
    :param place: gives ``FILE:LINE``, or an empty text where it is unknown.
    :return: the line, and the line with the traceback below it; without place and traceback where these raise.
    """
    line = text = f"{begin} raised {describe(error)}"
    with contextlib.suppress(BaseException):
        if where := place():
            line = text = f"{line} ({where})"
        text = f"{line}\n{''.join(_of_author(traceback.TracebackException.from_exception(error)).format()).rstrip()}"
    return line, text


def _of_author(found: traceback.TracebackException) -> traceback.TracebackException:
    """Cut the frames of this package from a traceback, where others are left."""
    seen: set[int] = set()
    todo: list[traceback.TracebackException | None] = [found]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        kept = [frame for frame in each.stack if not frame.filename.startswith(_OURS)]
        if kept:
            each.stack = traceback.StackSummary.from_list(kept)
        todo += [each.__cause__, each.__context__, *(getattr(each, "exceptions", None) or ())]
    return found


def _advice(text: str) -> str:
    advice = next((advice for start, advice in _ADVICE.items() if text.startswith(start)), None)
    if advice is None:
        return ""
    monkey = sys.modules.get("gevent.monkey")
    on_gevent = advice is _WITHIN_A_COROUTINE and monkey is not None and monkey.is_module_patched("threading")
    return f"; {advice}{_OF_ENGINE if on_gevent else ''}"


def traceback_location(file: Path, error: BaseException) -> tuple[Path, int | None]:
    """Find the innermost line of a traceback in a plugin's file or in a file of its folder.

    :param file: the plugin's file.
    :return: file and line; the plugin's file and None where the traceback has no such line.
    """
    innermost, line = file, None
    for frame, lineno in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if path == file or file.parent in path.parents:
            innermost, line = path, lineno
    return innermost, line


def running_line(file: Path, frames: Iterable[FrameType]) -> str:
    """Give ``FILE:LINE`` of what runs, in a plugin's file or in a file of its folder.

    :param file: the plugin's file.
    :param frames: the innermost one first.
    :return: an empty text where none is the plugin's.
    """
    for frame in frames:
        if file.parent in Path(frame.f_code.co_filename).parents:
            return line_of(frame)
    return ""


def line_of(frame: FrameType) -> str:
    """Give ``FILE:LINE`` of what a frame executes."""
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def traceback_line(file: Path, error: BaseException) -> str:
    """Give :func:`traceback_location` as ``FILE:LINE``; an empty text where the traceback has no such line."""
    found, line = traceback_location(file, error)
    return f"{found}:{line}" if line else ""
