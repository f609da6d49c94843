"""Cases that were not recorded: made as a recording has them, for what the recordings at hand do not show."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conformance.frames import NOTHING, Frame
from conformance.recordings import Case, Recording, case_of
from kong_pdk.wire import calls, msgpack_codec, protobuf_codec
from kong_pdk.wire.pdk_functions import METHODS
from kong_pdk.wire.pdk_values.protobuf_arguments import encode_arguments
from kong_pdk.wire.pdk_values.protobuf_results import encode_result

PATH = "/strip?a=1&flag"
HEADERS = [["host", "h.test"], ["x-empty", ""]]
_IDS = itertools.count(1)

Made = tuple[str, list[Any], Any]
"""A call: method, arguments, and Kong's value; NOTHING where Kong refuses it."""


def case(protocol: str, phase: str, made: Sequence[Made], results: Sequence[Any], body: bytes = b"") -> Case:
    """A request in which a handler makes calls. Over MsgPack:1 the steps come on two connections in turn.

    :param results: the values as the recording server would have noted them, of the calls that were answered.
    """
    id = next(_IDS)
    orders = {phase: [[method, args] for method, args, _ in made]}
    question = ("kong.request.get_header", ["x-probe"], json.dumps({**orders, "case": id}))
    frames = _Msgpack() if protocol == "MsgPack:1" else _Protobuf()
    frames.start()
    frames.event(phase, [question, *made])
    content = {
        "id": id,
        "request": {"method": "POST", "path": PATH, "headers": HEADERS, "body_hex": body.hex()},
        "response": {"status": 200, "headers": HEADERS, "body_hex": ""},
        "calls": orders,
        "results": [
            {"phase": phase, "method": method, "value": value}
            for (method, _, _), value in zip(made, results, strict=False)
        ],
        "frames": frames.all,
    }
    recording = Recording(Path(f"made-up-{protocol[:-2].lower()}.jsonl"), "")
    recording.cases.append(case_of(recording, 0, content))
    return recording.cases[0]


class _Msgpack:
    def __init__(self) -> None:
        self.all: list[Frame] = []
        self._number = 0

    def _say(self, side: str, data: bytes) -> None:
        self.all.append({"conn": self._number % 2, "from": side, "hex": data.hex()})

    def _ask(self, method: str, argument: Any, result: Any) -> None:
        self._number += 1
        self._say("kong", msgpack_codec.encode_request(self._number, method, [argument]))
        self._say("server", msgpack_codec.encode_response(self._number, None, result))

    def start(self) -> None:
        self._ask("plugin.StartInstance", {"Name": "probe", "Config": '{"__seq__": 1}'}, {"Name": "probe", "Id": 1})

    def event(self, phase: str, made: Sequence[Made]) -> None:
        outputs: list[Any] = [{"Method": method, "Args": args} for method, args, _ in made]
        outputs = [{"Data": output, "EventId": 5} for output in [*outputs, "ret"]]
        self._ask("plugin.HandleEvent", {"InstanceId": 1, "EventName": phase}, outputs.pop(0))
        for method, _, value in made:
            if value is NOTHING:
                return
            step = {"EventId": 5} if value is None else {"EventId": 5, "Data": value}
            self._ask(msgpack_codec.step_method(method), step, outputs.pop(0))


class _Protobuf:
    def __init__(self) -> None:
        self.all: list[Frame] = []

    def _say(self, side: str, data: bytes, **words: Any) -> None:
        self.all.append({"conn": 1, "from": side, "hex": data.hex(), **words})

    def start(self) -> None:
        self._say("kong", protobuf_codec.encode_call(1, calls.StartInstance("probe", b'{"__seq__": 1}')))
        self._say("server", protobuf_codec.encode_return(1, calls.InstanceStatus("probe", 1)))

    def event(self, phase: str, made: Sequence[Made]) -> None:
        self._say("kong", protobuf_codec.encode_call(2, calls.HandleEvent(1, phase)))
        for name, args, value in made:
            self._say("server", name.encode(), method=name)
            self._say("server", encode_arguments(METHODS[name], args), args_of=name)
            if value is NOTHING:
                self.all += [{"conn": 1, "from": side, "closed": True} for side in ("kong", "server")]
                return
            self._say("kong", encode_result(METHODS[name], value), reply_to=name)
        self._say("server", b"", end_of_calls=True)
        self._say("server", protobuf_codec.encode_return(2, None))
