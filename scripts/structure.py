#!/usr/bin/env python3
"""Measures how a Python code base is cut into modules and functions: scripts/structure.py [FOLDER[:TESTS]]...

Prints a row of a Markdown table for each folder; without one, the table of docs/architecture.md: what was measured
before, and this project as it is. ``scripts/structure.py --write`` puts the table into the page, between its marks.
"""

from __future__ import annotations

import ast
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- scripts/structure.py: begin -->\n", "<!-- scripts/structure.py: end -->\n"
SMALL = 40
COLUMNS = (
    "", "modules", "lines", "median module", f"under {SMALL} lines", "lines a function", "with a docstring",
    "tests to source",
)  # fmt: skip
MEASURED = """\
| uvicorn 0.54.0 | 45 | 7,539 | 84 | 19 | 16.5 | 13% | 1.2 |
| httpx 0.28.1 | 23 | 8,828 | 248 | 2 | 14.2 | 35% | 1.0 |
| this project, before | 261 | 30,162 | 100 | 51 | 8.2 | 55% | 1.3 |
| of it `server/`, before | 38 | 4,856 | 96 | 9 | 8.8 | 67% |  |
"""
"""Rows that this script printed for other code: releases of two peers, and this project before its house was tidied."""


def modules_of(folder: Path) -> list[str]:
    """Read every module of a folder."""
    found = [file.read_text() for file in sorted(folder.rglob("*.py")) if "__pycache__" not in file.parts]
    if not found:
        sys.exit(f"scripts/structure.py: {folder} has no Python module")
    return found


def row(name: str, folder: Path, tests: Path | None = None) -> str:
    """Measure a folder.

    :param tests: the folder of its tests, for the ratio of lines.
    """
    sources = modules_of(folder)
    lines = [len(source.splitlines()) for source in sources]
    functions = [
        node
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lengths = [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions]
    documented = sum(ast.get_docstring(node) is not None for node in functions)
    of_tests = sum(len(source.splitlines()) for source in modules_of(tests)) if tests else None
    cells = (
        name,
        str(len(sources)),
        f"{sum(lines):,}",
        f"{statistics.median(lines):.0f}",
        str(sum(number < SMALL for number in lines)),
        f"{statistics.mean(lengths):.1f}",
        f"{documented / len(functions):.0%}",
        f"{of_tests / sum(lines):.1f}" if of_tests is not None else "",
    )
    return f"| {' | '.join(cells)} |"


def table() -> str:
    """Make the table of the page."""
    package = ROOT / "pdk/src/kong_pdk"
    rows = [row("this project, now", package, ROOT / "tests"), row("of it `server/`, now", package / "server")]
    return f"{head()}\n{MEASURED}{chr(10).join(rows)}\n"


def head() -> str:
    """Make the head of a table."""
    return f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}"


def main(arguments: list[str]) -> None:
    """Print the table, or rows for the folders, or write the table into the page."""
    if arguments == ["--write"]:
        before, begin, rest = PAGE.read_text().partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            sys.exit(f"scripts/structure.py: {PAGE} does not have the lines {BEGIN.strip()} and {END.strip()}")
        PAGE.write_text(before + begin + table() + end + after)
    elif arguments:
        print(head())
        for argument in arguments:
            folder, _, tests = argument.partition(":")
            print(row(Path(folder).name, Path(folder), Path(tests) if tests else None))
    else:
        print(table(), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
