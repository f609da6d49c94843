"""What is measured: a plugin file each, Kong's answers to its calls, and how it is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
from kong_pdk.wire import msgpack_codec, protobuf_codec
from kong_pdk.wire.calls import HandleEvent
from kong_pdk.wire.interface import EXTENDED
from kong_pdk.wire.pdk_values.protobuf_results import RawBody, encode_result

PLUGINS = Path(__file__).parent / "plugins"
BODY = b"0123456789abcdef" * 4096


@dataclass(frozen=True)
class Case:
    """A plugin, and the load that it gets."""

    name: str
    answers: Mapping[str, Any] = field(default_factory=dict)
    """Kong's answers to the PDK functions that it calls; ProtoBuf:1 has a message of its own for a raw body."""
    ends: tuple[str, ...] = ()
    """PDK functions that end the request. In other cases they are a failure: a handler that raises calls them, too."""
    concurrency: tuple[int, ...] = (1, 16, 64)
    """The numbers of requests at once, 0 where there are none."""
    workers: tuple[int, ...] = (1,)
    most: int = 0
    """The most events of a run, 0 for no limit. Then each run gets a server of its own."""
    instances: int = 1
    """The instances that are started."""
    in_go: bool = True
    """Whether the handler is also in ``go/main.go``."""

    @property
    def plugin(self) -> Path:
        """The plugin's file; a case without requests needs no plugin of its own."""
        return PLUGINS / (f"{self.name}.py" if any(self.concurrency) else "0r0w.py")


_HEADERS = {"kong.request.get_header": "example.com", "kong.response.set_header": None}

CASES = (
    Case("0r0w"),
    Case("1r1w", _HEADERS),
    Case("5r5w", _HEADERS),
    # Over MsgPack:1 Kong does not tell a server that the request has ended: the events are limited.
    Case("exit", ends=("kong.response.exit",), most=1000),
    Case(
        "body64k",
        # Over MsgPack:1 our server asks for get_body first: Kong never answers where a body is in a file.
        {"kong.request.get_raw_body": BODY, "kong.request.get_body": {}, "kong.response.set_header": None},
    ),
    Case("sleep100ms", concurrency=(64,)),
    Case("cpu5ms", concurrency=(16,), workers=(1, 2), in_go=False),
    Case("idle", instances=200, concurrency=(0,), in_go=False),
)

PACE = {"protobuf": (146, 38), "msgpack": (164, 65)}
"""What Kong 3.9.3 itself computes, in microseconds: for a request with one event, and for a PDK call."""


def script(case: Case, protocol: str, instance: int, paced: bool) -> str:
    """Write what ``load.c`` is to send.

    :param protocol: ``protobuf`` or ``msgpack``.
    :param paced: compute as long as Kong does, in place of sending at once.
    """
    pace = [f"pace {PACE[protocol][0]} {PACE[protocol][1]}"] if paced else []
    lines = _protobuf(case, instance) if protocol == "protobuf" else _msgpack(case, instance)
    return "\n".join((f"protocol {protocol}", *pace, *lines, *(f"ends {method}" for method in case.ends))) + "\n"


def _protobuf(case: Case, instance: int) -> Iterator[str]:
    call = protobuf_codec.encode_call(0, HandleEvent(instance, "access"))
    yield f"event {call.hex()}"
    for method in EXTENDED:
        if method.function in case.answers:
            value = case.answers[method.function]
            if method.output == "RawBodyResult":
                value = RawBody(value)
            yield f"reply {method.name} - {encode_result(method, value).hex()}"


def _msgpack(case: Case, instance: int) -> Iterator[str]:
    yield f"event {msgpack.packb([{'InstanceId': instance, 'EventName': 'access'}]).hex()}"
    for function, value in case.answers.items():
        data = "-" if value is None else msgpack.packb(value).hex()
        yield f"reply {function} {msgpack_codec.step_method(function)} {data}"
