"""Tables for people: columns without lines, good for a terminal, and for ``grep`` and ``awk`` too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prettytable import PrettyTable, TableStyle


def render(columns: Sequence[str], rows: Iterable[Sequence[object]], widths: Mapping[str, int] | None = None) -> str:
    """Give the text of a table.

    :param widths: the most characters that a line of a column has; what is longer goes on in the next line.
    """
    table = PrettyTable(list(columns))
    table.set_style(TableStyle.PLAIN_COLUMNS)
    table.align = "l"
    if widths:
        table.max_width = dict(widths)
    for row in rows:
        table.add_row(list(row))
    return "\n".join(line.rstrip() for line in table.get_string().splitlines())
