"""ProtoBuf:1: frames, and the calls and returns of plugin life (the PDK's own messages: ``pdk``)."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

from google.protobuf.message import DecodeError

from kong_pdk.wire import calls
from kong_pdk.wire.calls import Answer, Call
from kong_pdk.wire.messages import message_class
from kong_pdk.wire.pdk_values.protobuf_values import fill_value, read_value
from kong_pdk.wire.text import decode, encode
from kong_pdk.wire.wire_errors import WireError

MAX_FRAME = 256 * 1024 * 1024
"""Bytes. The largest body Kong takes by default is smaller; a longer frame is a peer that speaks something else."""

_LENGTH = struct.Struct("=I")  # native order: that of the machine on which Kong runs too


def frame(payload: bytes) -> bytes:
    """Put the length in front of a message.

    :raises WireError: the message is longer than :data:`MAX_FRAME`.
    """
    if len(payload) > MAX_FRAME:
        raise WireError(f"a message of {len(payload)} bytes is too long, the limit is {MAX_FRAME}")
    return _LENGTH.pack(len(payload)) + payload


def first_message(received: Sequence[bytes]) -> tuple[bytes, deque[bytes]] | None:
    """Cut the first message off what was received, which stays as it is.

    :return: the message and what is behind it; None where it is not there as a whole.
    :raises WireError: a length that no message has.
    """
    total = sum(map(len, received))
    if total < _LENGTH.size:
        return None
    head = received[0] if len(received[0]) >= _LENGTH.size else b"".join(islice(received, _LENGTH.size))
    (length,) = _LENGTH.unpack_from(head)
    if length > MAX_FRAME:
        raise WireError(f"a message of {length} bytes is announced, the limit is {MAX_FRAME}")
    end = _LENGTH.size + length
    if total < end:
        return None
    whole = received[0] if len(received) == 1 else b"".join(received)
    return whole[_LENGTH.size : end], deque([whole[end:]] if total > end else [])


class Frames:
    """Cuts a stream of bytes into messages, however it arrives."""

    def __init__(self) -> None:
        """Start with nothing received."""
        self._received: deque[bytes] = deque()

    @property
    def partial(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._received)

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was received and give the messages that are complete.

        :raises WireError: a length that no message has.
        """
        if data:
            self._received.append(data)
        found: list[bytes] = []
        while (cut := first_message(self._received)) is not None:
            message, self._received = cut
            found.append(message)
        return found


def parse(name: str, payload: bytes) -> Any:
    """Decode a message by its short name.

    :raises WireError: the bytes are no such message.
    """
    try:
        return message_class(name).FromString(payload)
    except DecodeError as error:
        raise WireError(f"{len(payload)} bytes are not a {name}: {error}") from error


def encode_call(sequence: int, call: Call) -> bytes:
    """Make an ``RpcCall``, as Kong does."""
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
    """Read an ``RpcCall``: its sequence number and what is asked.

    :raises WireError: the bytes are no call.
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


def encode_return(sequence: int, answer: Answer) -> bytes:
    """Make an ``RpcReturn``, as a plugin server does."""
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
    """Read an ``RpcReturn``: its sequence number and the answer, None for that of an event.

    :raises WireError: the bytes are no return.
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
