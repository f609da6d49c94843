"""Cases that were not recorded, written like recordings, for behaviour that the recordings do not show."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from conformance.frames import NOTHING, Frame
from conformance.recordings import Case, Recording, add_case
from kong_pdk.wire import calls, msgpack_codec, protobuf_codec
from kong_pdk.wire.pdk_functions import METHODS
from kong_pdk.wire.pdk_values.protobuf_arguments import encode_arguments
from kong_pdk.wire.pdk_values.protobuf_results import encode_result

PATH = "/strip?a=1&flag"
HEADERS = [["host", "h.test"], ["x-empty", ""]]
_IDS = itertools.count(1)

Written = tuple[str, list[Any], Any]
"""A call: method, arguments, and Kong's value; NOTHING where Kong refuses it."""


def case(protocol: str, phase: str, made: Sequence[Written], results: Sequence[Any], body: bytes = b"") -> Case:
    """A request in which a handler makes calls. Over MsgPack:1 the steps come on two connections in turn.

    :param results: the values of the answered calls, as the recording server would note them.
    """
    id = next(_IDS)
    orders = {phase: [[method, args] for method, args, _ in made]}
    question = ("kong.request.get_header", ["x-probe"], json.dumps({**orders, "case": id}))
    frames = _msgpack if protocol == "MsgPack:1" else _protobuf
    content = {
        "id": id,
        "request": {"method": "POST", "path": PATH, "headers": HEADERS, "body_hex": body.hex()},
        "response": {"status": 200, "headers": HEADERS, "body_hex": ""},
        "calls": orders,
        "results": [
            {"phase": phase, "method": method, "value": value}
            for (method, _, _), value in zip(made, results, strict=False)
        ],
        "frames": list(frames(phase, [question, *made])),
    }
    return add_case(Recording(Path(f"written-{protocol[:-2].lower()}.jsonl")), content)


def _msgpack(phase: str, made: Sequence[Written]) -> Iterator[Frame]:
    numbers = itertools.count(1)

    def exchange(method: str, argument: Any, result: Any) -> Iterator[Frame]:
        number = next(numbers)
        for side, message in (
            ("kong", msgpack_codec.encode_request(number, method, [argument])),
            ("server", msgpack_codec.encode_response(number, None, result)),
        ):
            yield {"conn": number % 2, "from": side, "hex": message.hex()}

    yield from exchange("plugin.StartInstance", {"Name": "probe", "Config": '{"__seq__": 1}'}, {"Id": 1})
    calls_made: list[Any] = [{"Method": method, "Args": args} for method, args, _ in made]
    outputs = iter([{"Data": data, "EventId": 5} for data in [*calls_made, "ret"]])
    yield from exchange("plugin.HandleEvent", {"InstanceId": 1, "EventName": phase}, next(outputs))
    for method, _, value in itertools.takewhile(lambda each: each[2] is not NOTHING, made):
        step = {"EventId": 5} if value is None else {"EventId": 5, "Data": value}
        yield from exchange(msgpack_codec.step_method(method), step, next(outputs))


def _protobuf(phase: str, made: Sequence[Written]) -> Iterator[Frame]:
    def frame(side: str, message: bytes, **fields: Any) -> Frame:
        return {"conn": 1, "from": side, "hex": message.hex(), **fields}

    yield frame("kong", protobuf_codec.encode_call(1, calls.StartInstance("probe", b'{"__seq__": 1}')))
    yield frame("server", protobuf_codec.encode_return(1, calls.InstanceStatus("probe", 1)))
    yield frame("kong", protobuf_codec.encode_call(2, calls.HandleEvent(1, phase)))
    for name, args, value in made:
        yield frame("server", name.encode(), method=name)
        yield frame("server", encode_arguments(METHODS[name], args), args_of=name)
        if value is NOTHING:
            yield from ({"conn": 1, "from": side, "closed": True} for side in ("kong", "server"))
            return
        yield frame("kong", encode_result(METHODS[name], value), reply_to=name)
    yield frame("server", b"", end_of_calls=True)
    yield frame("server", protobuf_codec.encode_return(2, None))
