"""The PDK functions: which phase may call each (``phases.tsv``), and its method of ProtoBuf:1 (``methods.tsv``)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from kong_pdk.protocol import PHASES


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
    """List the PDK functions that were measured, by their dotted names."""
    return tuple(_table())


def allowed(method: str, phase: str, subsystem: str = "http") -> bool | None:
    """Say whether Kong makes this PDK call in this phase.

    :param method: dotted name, ``kong.request.get_header``.
    :param phase: ``certificate``, ``rewrite``, ``access``, ``response``, ``preread`` or ``log``.
    :param subsystem: ``http`` or ``stream``; it matters for ``log`` alone.
    :return: None where it was not measured, or the method is not in the table.
    """
    column = _STREAM_LOG if phase == "log" and subsystem == "stream" else phase
    return _table().get(method, {}).get(column)


def depends_on_subsystem(method: str) -> bool:
    """Say whether this call works in the ``log`` phase of one subsystem and is refused in the other."""
    verdicts = (allowed(method, "log", "http"), allowed(method, "log", "stream"))
    return True in verdicts and False in verdicts


def phases_of(method: str, subsystem: str = "http") -> tuple[str, ...]:
    """List the phases in which Kong makes this PDK call, in the order in which they run."""
    return tuple(phase for phase in PHASES if allowed(method, phase, subsystem))
