"""What an exception of a plugin says, as text for a log line."""

from __future__ import annotations


def describe(error: BaseException) -> str:
    """Give ``ValueError: text``, whatever the exception's own ``__str__`` does."""
    try:
        text = str(error)
    except BaseException as another:  # noqa: BLE001  # the author's code may raise anything
        text = f"(its __str__ raises {type(another).__name__})"
    return f"{type(error).__name__}: {text}"
