"""The PDK methods of ProtoBuf:1, with their messages (``methods.tsv``): Kong's own and those we add."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Method:
    """A PDK method as an interface file names it.

    ``name`` is the name on the wire: dotted, ``kong.request.get_header``, or with slashes,
    ``kong/request/get_header``. Kong finds the same Lua function by both; a second name is there for messages that
    say more. ``input`` and ``output`` are the short names of the messages. ``extended`` says that an unmodified Kong
    does not name the method.
    """

    name: str
    input: str
    output: str
    extended: bool = False

    @property
    def function(self) -> str:
        """The dotted name of the PDK function, as authors write it."""
        return self.name.replace("/", ".")


@cache
def _rows() -> dict[str, Method]:
    text = resources.files(__package__).joinpath("methods.tsv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return {
        row["method"]: Method(row["method"], row["input"], row["output"], row["interface"] == "extended")
        for row in rows
    }


METHODS: Mapping[str, Method] = _rows()
"""All methods, by their names on the wire: Kong 3.9's, and behind them those that our extension adds."""
