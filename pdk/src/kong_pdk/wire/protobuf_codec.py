"""ProtoBuf:1: frames, and the messages ``RpcCall`` and ``RpcReturn`` (messages of PDK calls: ``pdk_values``)."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError

from kong_pdk.wire import calls
from kong_pdk.wire.calls import Answer, Call
from kong_pdk.wire.messages import message_class
from kong_pdk.wire.pdk_values.protobuf_values import fill_value, read_value
from kong_pdk.wire.text import decode, encode
from kong_pdk.wire.wire_errors import WireError

MAX_FRAME = 256 * 1024 * 1024
"""Bytes of a message. A longer one means that the peer speaks another protocol: Kong's default limit is smaller."""

_LENGTH = struct.Struct("=I")  # native byte order, as Kong writes it on the same machine
PREFIX_SIZE = _LENGTH.size
"""Bytes of the length before a message."""

NO_MORE_CALLS = bytes(PREFIX_SIZE)
"""The frame in the place of a method's name that ends the calls of an event."""

# Kong writes the two fields of the call of an event in any order. Each begins with its tag.
_SEQUENCE = rb"(?P<sequence>\x08[\x80-\xff]{0,9}[\x00-\x7f])"  # up to ten bytes of seven bits each
_EVENT = rb"(?P<event>\xa2\x02.*)"  # cmd_handle_event
_EVENT_HEAD = 3  # the tag, and a length below 128
_SEQUENCE_FIRST = re.compile(_SEQUENCE + _EVENT, re.DOTALL)
_SEQUENCE_LAST = re.compile(_EVENT + _SEQUENCE, re.DOTALL)
_MOST_KNOWN = 4096


def frame(payload: bytes) -> bytes:
    """Put the length before a message.

    :raises WireError: the message is longer than :data:`MAX_FRAME`.
    """
    if len(payload) > MAX_FRAME:
        raise WireError(f"a message of {len(payload)} bytes is too long, the limit is {MAX_FRAME}")
    return _LENGTH.pack(len(payload)) + payload


def frame_size(received: Sequence[bytes]) -> int:
    """Give the size of the first frame in received bytes, with its length; 4 where its length is not complete.

    :raises WireError: the message is longer than :data:`MAX_FRAME`.
    """
    head = received[0] if len(received[0]) >= PREFIX_SIZE else b"".join(received)
    return PREFIX_SIZE + (_length(head) if len(head) >= PREFIX_SIZE else 0)


class Frames:
    """Cuts a stream of bytes into messages, in time that grows with the bytes and not with the pieces."""

    def __init__(self) -> None:
        self._received = bytearray()

    @property
    def partial(self) -> bool:
        """Whether a message is incomplete."""
        return bool(self._received)

    def feed(self, data: bytes) -> list[bytes]:
        """Add received bytes, and return the messages that are complete now.

        :raises WireError: a message is longer than :data:`MAX_FRAME`.
        """
        self._received += data
        messages: list[bytes] = []
        while len(self._received) >= PREFIX_SIZE:
            end = PREFIX_SIZE + _length(self._received)
            if len(self._received) < end:
                break
            messages.append(bytes(self._received[PREFIX_SIZE:end]))
            del self._received[:end]
        return messages


def _length(head: bytes | bytearray) -> int:
    (length,) = _LENGTH.unpack_from(head)
    if length > MAX_FRAME:
        raise WireError(f"a message of {length} bytes is announced, the limit is {MAX_FRAME}")
    return int(length)


def parse(name: str, payload: bytes) -> Any:
    """Decode a message.

    :param name: the short name of the message.
    :raises WireError: the bytes are not such a message.
    """
    try:
        return message_class(name).FromString(payload)
    except DecodeError as error:
        raise WireError(f"{len(payload)} bytes are not a {name}: {error}") from error


def encode_call(sequence: int, call: Call) -> bytes:
    """Encode an ``RpcCall``, as Kong does."""
    message = message_class("RpcCall")(sequence=sequence)
    if isinstance(call, calls.HandleEvent):
        message.cmd_handle_event.SetInParent()
        message.cmd_handle_event.instance_id = call.instance_id
        message.cmd_handle_event.event_name = encode(call.event_name)
    elif isinstance(call, calls.StartInstance):
        message.cmd_start_instance.name = encode(call.name)
        message.cmd_start_instance.config = call.config
    elif isinstance(call, calls.CloseInstance):
        message.cmd_close_instance.SetInParent()
        message.cmd_close_instance.instance_id = call.instance_id
    elif isinstance(call, calls.GetInstanceStatus):
        message.cmd_get_instance_status.SetInParent()
        message.cmd_get_instance_status.instance_id = call.instance_id
    elif isinstance(call, calls.GetPluginInfo):
        message.cmd_get_plugin_info.SetInParent()
        message.cmd_get_plugin_info.name = encode(call.name)
    else:
        message.cmd_get_plugin_names.SetInParent()
    return bytes(message.SerializeToString())


def decode_call(payload: bytes) -> tuple[int, Call]:
    """Decode an ``RpcCall``: its sequence number and the call.

    :raises WireError: the bytes are not an ``RpcCall``.
    """
    message = parse("RpcCall", payload)
    kind = message.WhichOneof("kind")
    if kind is None:
        raise WireError("an RpcCall without a command")
    command = getattr(message, kind)
    call: Call
    if kind == "cmd_handle_event":
        call = calls.HandleEvent(command.instance_id, decode(command.event_name))
    elif kind == "cmd_start_instance":
        call = calls.StartInstance(decode(command.name), command.config)
    elif kind == "cmd_close_instance":
        call = calls.CloseInstance(command.instance_id)
    elif kind == "cmd_get_instance_status":
        call = calls.GetInstanceStatus(command.instance_id)
    elif kind == "cmd_get_plugin_info":
        call = calls.GetPluginInfo(decode(command.name))
    else:
        call = calls.GetPluginNames()
    return message.sequence, call


class EventCalls:
    """Decodes the ``RpcCall`` of an event. A Kong sends the same ones but for the sequence number, so they are kept."""

    def __init__(self) -> None:
        self._known: dict[bytes, calls.HandleEvent] = {}

    def decode(self, payload: bytes) -> tuple[bytes, calls.HandleEvent] | None:
        """Decode a call.

        :return: the field of the sequence number as it came, and the event; None for any other call.
        :raises WireError: the bytes are not an ``RpcCall``.
        """
        fields = _SEQUENCE_FIRST.fullmatch(payload) or _SEQUENCE_LAST.fullmatch(payload)
        sequence, rest = fields.group("sequence", "event") if fields else (b"", payload)
        event = self._known.get(rest)
        if event is not None:
            return sequence, event
        number, call = decode_call(payload)
        if not isinstance(call, calls.HandleEvent):
            return None
        exact = encode_return(number, None)
        if exact == sequence and len(rest) == _EVENT_HEAD + rest[_EVENT_HEAD - 1]:  # one short field, and nothing more
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[rest] = call
        return exact, call


def event_end(sequence: bytes) -> bytes:
    """Give the frames that end an event: no more calls, and its ``RpcReturn``.

    :param sequence: the field of the sequence number, as it came: it has the same number in both messages.
    """
    return NO_MORE_CALLS + _LENGTH.pack(len(sequence)) + sequence


def encode_return(sequence: int, answer: Answer) -> bytes:
    """Encode an ``RpcReturn``, as a plugin server does."""
    message = message_class("RpcReturn")(sequence=sequence)
    if isinstance(answer, calls.InstanceStatus):
        status = message.instance_status
        status.SetInParent()
        status.name, status.instance_id = encode(answer.name), answer.instance_id
        status.started_at = answer.started_at
        if answer.config is not None:
            fill_value(status.config, answer.config)
    elif isinstance(answer, calls.PluginInfo):
        info = message.plugin_info
        info.SetInParent()
        info.name, info.version, info.schema = (
            encode(answer.name),
            encode(answer.version),
            encode(answer.schema),
        )
        info.priority, info.updated_at, info.loaded_at = answer.priority, answer.updated_at, answer.loaded_at
        info.phases.extend(encode(phase) for phase in answer.phases)
    elif isinstance(answer, calls.PluginNames):
        message.plugin_names.SetInParent()
        message.plugin_names.names.extend(encode(name) for name in answer.names)
    return bytes(message.SerializeToString())


def decode_return(payload: bytes) -> tuple[int, Answer]:
    """Decode an ``RpcReturn``: its sequence number and the answer, which is None for an event.

    :raises WireError: the bytes are not an ``RpcReturn``.
    """
    message = parse("RpcReturn", payload)
    kind = message.WhichOneof("kind")
    answer: Answer = None
    if kind == "instance_status":
        status = message.instance_status
        config = read_value(status.config) if status.HasField("config") else None
        answer = calls.InstanceStatus(decode(status.name), status.instance_id, config, status.started_at)
    elif kind == "plugin_info":
        info = message.plugin_info
        answer = calls.PluginInfo(
            decode(info.name),
            tuple(decode(phase) for phase in info.phases),
            decode(info.version),
            info.priority,
            decode(info.schema),
            info.updated_at,
            info.loaded_at,
        )
    elif kind == "plugin_names":
        answer = calls.PluginNames(tuple(decode(name) for name in message.plugin_names.names))
    return message.sequence, answer
