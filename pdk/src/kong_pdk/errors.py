"""The exceptions of PDK calls, for plugin authors."""

from __future__ import annotations


class PDKException(Exception):
    """The base of all exceptions of PDK calls; plugins for kong-pdk import it from ``kong_pdk.exception``."""


class PDKError(PDKException):
    """A PDK call failed, in a plugin without Lua style, which gets exceptions instead of ``(value, err)``."""


class PhaseError(PDKError):
    """A PDK call in a phase in which Kong refuses it. The call was not sent.

    Raised in both styles: Kong would answer the request with status 500, and in ``log`` leak data of this request into
    later ones.
    """

    def __init__(self, method: str, phase: str, phases: tuple[str, ...], hint: str | None = None) -> None:
        """:param method: the dotted name of the function.

        :param phase: the phase of the handler.
        :param phases: the phases in which the call works.
        :param hint: what to use instead, where the call works in no phase.
        """
        works = f"it works in {', '.join(phases)}" if phases else "no phase of a plugin server can call it"
        works = f"{works}; {hint}" if hint else works
        super().__init__(f"{method} cannot be called in the {phase} phase; {works}")
        self.method = method
        self.phase = phase
        self.phases = phases


class UnknownFunctionError(PDKError):
    """A PDK function that does not exist, or for which ProtoBuf:1 has no method. The call was not sent.

    Raised in both styles. The message has a hint.
    """

    def __init__(self, method: str, reason: str) -> None:
        """:param method: the dotted name of the function.

        :param reason: the message, with a hint.
        """
        super().__init__(reason)
        self.method = method


class AbsentError(UnknownFunctionError, AttributeError):
    """A name of the PDK that no plugin server has. Raised at the access of the name, before any call."""

    def __init__(self, method: str, hint: str) -> None:
        """:param method: the dotted name.

        :param hint: what to use instead.
        """
        super().__init__(method, f"a plugin server has no {method}; {hint}")
