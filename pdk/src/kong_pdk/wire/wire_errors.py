"""Errors in the bytes of a peer, and in the arguments of a PDK call."""

from __future__ import annotations

from kong_pdk.errors import PDKException


class WireError(Exception):
    """The bytes do not follow the protocol, so their connection must be closed."""


class UnknownMethod(WireError):
    """An interface file does not have a method for a PDK function."""

    def __init__(self, method: str) -> None:
        """:param method: the dotted name, ``kong.request.get_body`` for example, or the name on the wire."""
        super().__init__(f"{method} is not one of the methods that Kong's interface file names")
        self.method = method


class InterfaceError(Exception):
    """An interface file is missing or wrong; the message has a hint."""


class ArgumentError(PDKException, TypeError):
    """The arguments of a PDK call cannot be sent; the call was not made."""


def too_deep(function: str) -> ArgumentError:
    """Make the error about a value that is nested too deeply, or contains itself."""
    return ArgumentError(f"{function}: a value is nested too deeply to be sent to Kong")
