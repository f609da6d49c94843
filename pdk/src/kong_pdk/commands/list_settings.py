"""``kong-python settings``: every variable ``KONG_PYTHON_*`` and its value here."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence

from kong_pdk import plain_table
from kong_pdk.exit_status import CONFIGURATION_STATUS
from kong_pdk.masking import masked
from kong_pdk.settings import VARIABLES, Variable, check

_MEANING_WIDTH = 60
_NOT_THE_DEFAULT = "*"


def main(argv: Sequence[str]) -> int:
    """Print the variables.

    :return: 0, or 78 where a value is invalid or a name is unknown; the messages go to standard error.
    """
    options = _parser().parse_args(list(argv))
    if options.markdown:
        print(markdown())
    elif options.json:
        print(json.dumps([_entry(variable, os.environ) for variable in VARIABLES], indent=2))
    else:
        print(_table(os.environ))
    messages = check(os.environ)
    for message in messages:
        print(f"kong-python: {message}", file=sys.stderr)
    return CONFIGURATION_STATUS if messages else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kong-python settings",
        description="Show every variable KONG_PYTHON_*: its value in force, its default and what it does.",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a JSON array")
    form.add_argument("--markdown", action="store_true", help="print the table of docs/operator.md")
    return parser


def markdown() -> str:
    """Give the table of the documentation, which has no values of this machine."""
    head = ["| variable | set it to | default | meaning |", "| --- | --- | --- | --- |"]
    rows = [(f"`{variable.name}`", variable.kind, f"`{variable.default}`", variable.meaning) for variable in VARIABLES]
    return "\n".join([*head, *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)])


def _entry(variable: Variable[object], environ: Mapping[str, str]) -> dict[str, object]:
    return {
        "name": variable.name,
        "value": masked(variable.text(environ)),
        "default": variable.default,
        "is_default": variable.is_default(environ),
        "set_it_to": variable.kind,
        "meaning": variable.meaning,
    }


def _table(environ: Mapping[str, str]) -> str:
    columns = ("name", "value", "default", "meaning")
    rows = [(variable.name, _value(variable, environ), variable.default, variable.meaning) for variable in VARIABLES]
    table = plain_table.render(columns, rows, {"meaning": _MEANING_WIDTH})
    marked = any(not variable.is_default(environ) for variable in VARIABLES)
    return f"{table}\n\n{_NOT_THE_DEFAULT} not the default" if marked else table


def _value(variable: Variable[object], environ: Mapping[str, str]) -> str:
    mark = "" if variable.is_default(environ) else f" {_NOT_THE_DEFAULT}"
    return f"{masked(variable.text(environ))}{mark}"
