"""The PDK methods that Kong's interface file names, with their messages (``methods.tsv``)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from kong_pdk.wire.errors import UnknownMethod


@dataclass(frozen=True)
class Method:
    """A PDK method and the short names of its messages."""

    name: str
    input: str
    output: str


@cache
def _stock() -> dict[str, Method]:
    text = resources.files(__package__).joinpath("methods.tsv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return {row["method"]: Method(row["method"], row["input"], row["output"]) for row in rows}


STOCK: Mapping[str, Method] = _stock()
"""The methods that an unmodified Kong 3.9 knows, by name."""


def method(name: str) -> Method:
    """Look a method up.

    :raises UnknownMethod: Kong's interface file does not name it.
    """
    found = STOCK.get(name)
    if found is None:
        raise UnknownMethod(name)
    return found
