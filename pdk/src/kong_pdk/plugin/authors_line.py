"""The line of an author's own code at which an exception came up, among those of everything that it called."""

from __future__ import annotations

import traceback
from pathlib import Path


def authors_line(file: Path, error: BaseException) -> tuple[Path, int | None]:
    """The innermost line in a plugin's file, or in a file beside it, that ``error`` has passed.

    The plugin's file and None where it passed none.
    """
    found, line = file, None
    for frame, lineno in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if path == file or file.parent in path.parents:
            found, line = path, lineno
    return found, line
