"""The bytes that answer Kong in the place of a worker that has ended, so that a request ends with status 500.

A handler that raises gets the same answer by the worker itself (see :mod:`kong_pdk.server.handler`).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from kong_pdk.error_page import UNEXPECTED, error_page
from kong_pdk.wire.interface import Interface
from kong_pdk.wire.msgpack_codec import HANDLER_END, encode_output, encode_pdk_call, encode_response
from kong_pdk.wire.pdk_values.protobuf_arguments import encode_arguments
from kong_pdk.wire.protobuf_codec import event_end, frame
from kong_pdk.wire.text import encode
from kong_pdk.wire.wire_errors import UnknownMethod

NO_EVENT = 0
"""The id of an event in an answer after which Kong sends no step."""


class Failure(NamedTuple):
    """What a client gets when its request is not served."""

    status: int
    message: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def args(self, phase: str) -> list[object]:
        """Give the arguments of :func:`failure_function`. Without a request, the status alone counts."""
        if not self.message or phase in _NO_REQUEST:
            return [self.status]
        return [self.status, self.message, dict(self.headers)]


UNEXPECTED_FAILURE = Failure(500)
OVERLOAD = Failure(503, "The server is overloaded", (("Retry-After", "1"),))
"""There is no room for an event."""

_NO_REQUEST = ("certificate", "preread")


def failure_function(phase: str) -> str:
    """Give the name of the PDK function that ends a request with status 500 in a phase."""
    return "kong.response.exit" if phase in _NO_REQUEST else "kong.response.error"


def lets_pass(phase: str, is_open: bool) -> bool:
    """Whether a failure in a phase only ends the event, and not the request.

    In ``log`` the client has its answer, and Kong refuses the call that would end the request.

    :param is_open: whether the plugin fails open.
    """
    return is_open or phase == "log"


def failure_over_msgpack(phase: str, is_open: bool = False, failure: Failure = UNEXPECTED_FAILURE) -> bytes:
    """Give the output of an event of MsgPack:1 that has failed."""
    if lets_pass(phase, is_open):
        return HANDLER_END
    return encode_pdk_call(failure_function(phase), failure.args(phase))


class FailureAnswers:
    """The answers over both protocols."""

    def __init__(self, interface: Interface) -> None:
        """:param interface: the methods that Kong has over ProtoBuf:1."""
        self._interface = interface
        self._exit = functools.lru_cache(16)(self._exit_over_protobuf)

    def protobuf_event(
        self, phase: str, is_open: bool, sequence: bytes, failure: Failure = UNEXPECTED_FAILURE
    ) -> bytes:
        """Answer an event of ProtoBuf:1, at any place between the calls of its handler.

        :param sequence: the field of its sequence number, as it came.
        """
        return event_end(sequence) if lets_pass(phase, is_open) else self._exit(phase, failure)

    def _exit_over_protobuf(self, phase: str, failure: Failure) -> bytes:
        args = failure.args(phase)
        try:
            method = self._interface.choose(failure_function(phase), phase)
        except UnknownMethod:  # the stock interface does not have kong.response.error
            method = self._interface.choose("kong.response.exit", phase)
            content_type, body = error_page(None, failure.message or UNEXPECTED, None)
            args = [failure.status, body, {"content-type": content_type, **dict(failure.headers)}]
        return frame(encode(method.name)) + frame(encode_arguments(method, args))

    def msgpack_event(self, phase: str, is_open: bool, request: int) -> bytes:
        """Answer a request of MsgPack:1 that waits for the next call of a handler, or its end."""
        return encode_output(request, NO_EVENT, failure_over_msgpack(phase, is_open))

    def msgpack_call(self, request: int) -> bytes:
        """Answer any other request of MsgPack:1."""
        return encode_response(request, "the process of the plugin server that served this call has ended", None)
