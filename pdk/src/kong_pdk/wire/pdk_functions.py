"""The PDK functions: their phases (``phases.tsv``), and their methods of ProtoBuf:1 (``methods.tsv``)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from kong_pdk.protocol import PHASES


@dataclass(frozen=True)
class Method:
    """A method of an interface file, which calls a PDK function."""

    name: str
    """The name on the wire: dotted, ``kong.request.get_header``, or with slashes, ``kong/request/get_header``.

    Kong finds the same Lua function by both names; the second name exists for more exact messages.
    """
    input: str
    """The short name of the argument's message."""
    output: str
    """The short name of the result's message."""
    extended: bool = False
    """Whether the method belongs to our extension, so that an unmodified Kong does not have it."""

    @property
    def function(self) -> str:
        """The dotted name of the PDK function."""
        return self.name.replace("/", ".")


def _rows() -> dict[str, Method]:
    text = resources.files(__package__).joinpath("methods.tsv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return {
        row["method"]: Method(row["method"], row["input"], row["output"], row["interface"] == "extended")
        for row in rows
    }


METHODS: Mapping[str, Method] = _rows()
"""All methods by their names on the wire: the methods of Kong 3.9, then those of our extension."""

_STREAM_LOG = "log (stream)"


@cache
def _table() -> dict[str, dict[str, bool]]:
    text = resources.files(__package__).joinpath("phases.tsv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return {
        row["function"]: {phase: verdict == "ok" for phase, verdict in row.items() if verdict in ("ok", "refused")}
        for row in rows
    }


def functions() -> tuple[str, ...]:
    """List the PDK functions of ``phases.tsv``, by their dotted names."""
    return tuple(_table())


def allowed(method: str, phase: str, subsystem: str = "http") -> bool | None:
    """Whether Kong makes a PDK call in a phase.

    :param method: dotted name, ``kong.request.get_header``.
    :param phase: ``certificate``, ``rewrite``, ``access``, ``response``, ``preread`` or ``log``.
    :param subsystem: ``http`` or ``stream``; only ``log`` depends on it.
    :return: None where it was not measured, or the method is not in ``phases.tsv``.
    """
    column = _STREAM_LOG if phase == "log" and subsystem == "stream" else phase
    return _table().get(method, {}).get(column)


def depends_on_subsystem(method: str) -> bool:
    """Whether a call works in the ``log`` phase of one subsystem, and is refused in the other."""
    verdicts = (allowed(method, "log", "http"), allowed(method, "log", "stream"))
    return True in verdicts and False in verdicts


def phases_of(method: str, subsystem: str = "http") -> tuple[str, ...]:
    """List the phases in which Kong makes a PDK call, in the order in which they run."""
    return tuple(phase for phase in PHASES if allowed(method, phase, subsystem))
