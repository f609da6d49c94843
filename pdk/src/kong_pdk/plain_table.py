"""Tables for people: columns without lines, good for a terminal, and for ``grep`` and ``awk`` too."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest


def render(
    columns: Sequence[str], rows: Iterable[Sequence[object]], widths: Mapping[str, int] | None = None, gap: int = 8
) -> str:
    """Give the text of a table.

    :param widths: the most characters that a line of a column has; what is longer goes on in the next line.
    :param gap: the spaces between two columns.
    """
    limits = [(widths or {}).get(name) for name in columns]
    cells = [[_wrapped(str(cell), limit) for cell, limit in zip(row, limits, strict=True)] for row in (columns, *rows)]
    widest = [max(_width(line) for cell in column for line in cell) for column in zip(*cells, strict=True)]
    lines = (line for row in cells for line in zip_longest(*row, fillvalue=""))
    return "\n".join(
        (" " * gap).join(part + " " * (width - _width(part)) for part, width in zip(line, widest, strict=True)).rstrip()
        for line in lines
    )


def _wrapped(text: str, limit: int | None) -> list[str]:
    lines = text.split("\n")
    return [part for line in lines for part in textwrap.wrap(line, limit) or [""]] if limit else lines


def _width(text: str) -> int:
    """Count the columns of a terminal: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )
