"""MsgPack:1: the messages of MessagePack-RPC, and the names of the steps that bring values of PDK calls."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import msgpack

from kong_pdk.wire.wire_errors import ArgumentError, WireError, too_deep

MAX_MESSAGE = 256 * 1024 * 1024
"""Bytes of a message; a longer message means that the peer speaks another protocol."""

_READ_SIZE = 64 * 1024

_STEPS = {
    "kong.client.get_credential": "plugin.StepCredential",
    "kong.client.authenticate": "plugin.StepCredential",
    "kong.client.load_consumer": "plugin.StepConsumer",
    "kong.client.get_consumer": "plugin.StepConsumer",
    "kong.node.get_memory_stats": "plugin.StepMemoryStats",
    "kong.router.get_route": "plugin.StepRoute",
    "kong.router.get_service": "plugin.StepService",
    "kong.request.get_query": "plugin.StepMultiMap",
    "kong.request.get_headers": "plugin.StepMultiMap",
    "kong.response.get_headers": "plugin.StepMultiMap",
    "kong.service.response.get_headers": "plugin.StepMultiMap",
}


class Request(NamedTuple):
    """A call of a method."""

    id: int
    method: str
    args: list[Any]


class Response(NamedTuple):
    """The error or the result of a request."""

    id: int
    error: Any
    result: Any


class Notification(NamedTuple):
    """A message without an answer, ``serverPid`` for example."""

    label: str
    args: Any


Message: TypeAlias = Request | Response | Notification


_RESPONSE = b"\x94\x01"  # an array of four, 1
_NO_ERROR_AND_DATA = b"\xc0\x82\xa4Data"  # nil, a map of two, "Data"
_EVENT_ID = b"\xa7EventId"
_LONGEST_HEAD = 32
SNIFFED = 4
"""How many bytes of a connection tell the protocols apart."""

HANDLER_END = b"\xa3ret"
"""The data of the output of a handler that has returned."""


def is_msgpack(start: bytes) -> bool:
    """Tell a MessagePack-RPC request from the length of a frame of ProtoBuf:1.

    A request is an array of four elements (0x94) that begins with 0. An id follows: one byte up to 0x7f and then the
    first byte of a string (from 0xa0 on), or several bytes, the first of them from 0xcc on. Read as the length of a
    frame, these bytes mean 13 MB or more.
    """
    return start[:2] == b"\x94\x00" and (start[2] >= 0xCC or start[3] >= 0xA0)


def id_of_request(start: bytes) -> int:
    """Give the id of a request of which only the start has come; 0 where it has not come or is none."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(start[:_LONGEST_HEAD])
    with contextlib.suppress(msgpack.UnpackException, ValueError, TypeError):
        unpacker.read_array_header()
        unpacker.skip()
        id = unpacker.unpack()
        return id if isinstance(id, int) and not isinstance(id, bool) else 0
    return 0


def step_method(method: str) -> str:
    """Give the RPC method by which Kong brings the value of a PDK call.

    :param method: the dotted name of the PDK function.
    """
    return _STEPS.get(method, "plugin.Step")


class Messages:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(
            raw=False,
            unicode_errors="surrogateescape",
            strict_map_key=False,
            max_buffer_size=MAX_MESSAGE,
            read_size=_READ_SIZE,
        )

    def feed(self, data: bytes) -> list[Message]:
        """Add received bytes, and return the messages that are complete now.

        :raises WireError: the bytes are not MessagePack-RPC.
        """
        try:
            self._unpacker.feed(data)
            return [_message(item) for item in self._unpacker]
        except WireError:
            raise
        except (msgpack.UnpackException, ValueError, TypeError, RecursionError) as error:
            raise WireError(f"not MessagePack-RPC: {str(error) or type(error).__name__}") from error


def _message(item: Any) -> Message:
    if isinstance(item, list) and item:
        if item[0] == 0 and len(item) == 4 and _is_request(item):
            return Request(item[1], item[2], item[3])
        if item[0] == 1 and len(item) == 4 and isinstance(item[1], int):
            return Response(item[1], item[2], item[3])
        if item[0] == 2 and len(item) == 3 and isinstance(item[1], str):
            return Notification(item[1], item[2])
    raise WireError(f"not a MessagePack-RPC message: {type(item).__name__}")


def _is_request(item: list[Any]) -> bool:
    return isinstance(item[1], int) and isinstance(item[2], str) and isinstance(item[3], list)


def _pack(item: object) -> bytes:
    packed: bytes = msgpack.packb(item, use_bin_type=True, unicode_errors="surrogateescape")
    return packed


def encode_request(id: int, method: str, args: Sequence[object]) -> bytes:
    """Encode a request.

    :raises TypeError, ValueError, OverflowError: an argument that MessagePack cannot carry.
    """
    return _pack([0, id, method, list(args)])


def encode_response(id: int, error: object, result: object) -> bytes:
    """Encode a response.

    :raises TypeError, ValueError, OverflowError: a value that MessagePack cannot carry.
    """
    return _pack([1, id, error, result])


def encode_pdk_call(method: str, args: Sequence[object]) -> bytes:
    """Encode a PDK call, the data of an event's output.

    :raises ArgumentError: MessagePack cannot carry an argument, or the call is too long.
    """
    try:
        packed = _pack({"Method": method, "Args": list(args)})
    except RecursionError as error:
        raise too_deep(method) from error
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentError(f"{method}: an argument cannot be sent to Kong: {error}") from error
    if len(packed) > MAX_MESSAGE:
        size = f"the arguments are {len(packed)} bytes long, and at most {MAX_MESSAGE} can be sent"
        raise ArgumentError(f"{method}: {size}")
    return packed


def encode_output(id: int, event_id: int, data: bytes) -> bytes:
    """Encode the response to ``HandleEvent`` or a step: the handler's next PDK call, or its end.

    :param id: the id of the request.
    :param event_id: the id of the event.
    :param data: a call of :func:`encode_pdk_call`, or :data:`HANDLER_END`.
    """
    return b"".join((_RESPONSE, _pack(id), _NO_ERROR_AND_DATA, data, _EVENT_ID, _pack(event_id)))


def encode_notification(label: str, args: object) -> bytes:
    """Encode a notification."""
    return _pack([2, label, args])
