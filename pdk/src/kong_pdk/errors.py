"""The exceptions that plugin authors meet."""

from __future__ import annotations


class PDKException(Exception):
    """Whatever a PDK call raises; plugins for kong-pdk import the name from ``kong_pdk.exception``."""


class PDKError(PDKException):
    """A PDK call failed, in a plugin that asked for exceptions instead of ``(value, err)``."""


class PhaseError(PDKError):
    """A PDK call in a phase in which Kong refuses it; it was not sent.

    Raised in both styles: Kong would answer the request with a 500, and in ``log`` leak data of this
    request into later ones.
    """

    def __init__(self, method: str, phase: str, phases: tuple[str, ...], hint: str | None = None) -> None:
        """:param phases: those in which the call works; hint: what to use where there is none."""
        works = f"it works in {', '.join(phases)}" if phases else "no phase of a plugin server can call it"
        works = f"{works}; {hint}" if hint else works
        super().__init__(f"{method} cannot be called in the {phase} phase; {works}")
        self.method = method
        self.phase = phase
        self.phases = phases


class UnknownFunctionError(PDKError):
    """A PDK function that Kong cannot be asked for: there is none of the name, or ProtoBuf:1 has no method for it.

    Raised in both styles; it was not sent. The text says what to do.
    """

    def __init__(self, method: str, reason: str) -> None:
        """:param method: the dotted name; reason: a sentence with the hint."""
        super().__init__(reason)
        self.method = method


class AbsentError(UnknownFunctionError, AttributeError):
    """A name of the PDK that no plugin server has, raised where it is written: nothing is to pass for its value."""

    def __init__(self, method: str, hint: str) -> None:
        """:param method: the dotted name; hint: what to use in its place."""
        super().__init__(method, f"a plugin server has no {method}; {hint}")
