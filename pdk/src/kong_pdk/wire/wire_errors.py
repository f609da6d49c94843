"""What can be wrong with the bytes of a peer or with the arguments of a call."""

from __future__ import annotations

from kong_pdk.errors import PDKException


class WireError(Exception):
    """The bytes are not of the protocol: the connection that brought them is to be closed."""


class UnknownMethod(WireError):
    """ProtoBuf:1 has no messages for this PDK method."""

    def __init__(self, method: str) -> None:
        """:param method: the name, ``kong.request.get_body`` for example."""
        super().__init__(f"{method} is not one of the methods that Kong's interface file names")
        self.method = method


class InterfaceError(Exception):
    """An interface file that is not what it should be; the message says what to do."""


class ArgumentError(PDKException, TypeError):
    """The arguments do not fit into the message of a method: they were not sent."""


def too_deep(function: str) -> ArgumentError:
    """Make the error of a value that has no end, or a very deep one."""
    return ArgumentError(f"{function}: a value is nested too deeply to be sent to Kong")
