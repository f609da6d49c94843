"""Which PDK function works in which phase, as measured on a real Kong 3.9.3 (``phases.tsv``)."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

PHASES = ("certificate", "rewrite", "access", "response", "preread", "log")
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
