"""Which event of MsgPack:1 a request is about. The event's id contains the number of its worker, and the phase.

Kong sends the steps of an event on any connection, and so to any worker, also after the worker of the event has ended.
"""

from __future__ import annotations

from kong_pdk.protocol import PHASES
from kong_pdk.settings import MOST_WORKERS
from kong_pdk.wire.msgpack_codec import Request

HANDLE_EVENT = "plugin.HandleEvent"
"""The method by which an event begins."""

STEPS = "plugin.Step"
"""How the methods begin that bring the value of a PDK call to an event."""

_KINDS = 8  # a power of two above the number of phases
_OTHER_PHASE = _KINDS - 1

NUMBERS = 2**31 // MOST_WORKERS // _KINDS
"""How many ids a worker has for each phase."""


def event_id(number: int, phase: str, slot: int) -> int:
    """Make an id.

    :param number: counts the events of the worker.
    :param slot: the number of the worker, from 0.
    """
    kind = PHASES.index(phase) if phase in PHASES else _OTHER_PHASE
    return (number % NUMBERS * _KINDS + kind) * MOST_WORKERS + slot


def phase_of(event_id: int) -> str:
    """Give the phase of an event of any worker; ``access`` where the id has none."""
    kind = event_id // MOST_WORKERS % _KINDS
    return PHASES[kind] if kind < len(PHASES) else "access"


def phase_of_request(request: Request) -> str | None:
    """Give the phase of the event that a request is about; None for a request that is about none."""
    argument = request.args[0] if request.args and isinstance(request.args[0], dict) else {}
    if request.method == HANDLE_EVENT:
        return str(argument.get("EventName", ""))
    if request.method.startswith(STEPS):
        id = argument.get("EventId")
        return phase_of(id) if isinstance(id, int) else ""
    return None


def owner_of(event_id: int) -> int:
    """Give the number of the worker that has an event."""
    return event_id % MOST_WORKERS
