"""The recordings of a real Kong, found in the folder that KONG_RECORDINGS names: each file of cases in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from conformance.frames import CLOSED, NOTHING, UNREADABLE, Event, Frame, Item, PdkCall, Start, Step, is_msgpack, items
from kong_pdk.wire.wire_errors import WireError

__all__ = ["CLOSED", "FOLDER", "NOTHING", "UNREADABLE", "Case", "PdkCall", "Recording", "RecordingError", "Step",
           "recordings"]  # fmt: skip

FOLDER = Path(os.environ.get("KONG_RECORDINGS") or Path(__file__).parents[3] / "shared" / "kong-3.9.3")
HTTP, STREAM, CERTIFICATE = "http", "stream", "certificate"
_NOT_SENT = "not sendable or not decodable"


class RecordingError(Exception):
    """A file that does not hold recordings: a sentence with the file and the line."""


@dataclass(frozen=True)
class Case:
    """One recorded request, stream or handshake, by ``kind``; ``items`` are its frames as what they say."""

    recording: Recording
    index: int
    id: int
    kind: str
    orders: dict[str, list[Any]]
    results: list[dict[str, Any]]
    reference_server_failed: bool
    items: list[Item] = field(repr=False)
    recorded: dict[str, Any] = field(repr=False)

    @property
    def protocol(self) -> str:
        return self.recording.protocol

    @property
    def request(self) -> dict[str, Any]:
        request: dict[str, Any] = self.recorded["request"]
        return request

    @property
    def response(self) -> dict[str, Any]:
        response: dict[str, Any] = self.recorded["response"]
        return response

    @property
    def body(self) -> bytes:
        """That of the request."""
        return bytes.fromhex(self.recorded.get("request", {}).get("body_hex") or "")

    @cached_property
    def events(self) -> list[Event]:
        return [item for item in self.items if isinstance(item, Event)]

    def calls_of(self, phase: str) -> list[PdkCall]:
        return [call for event in self.events if event.phase == phase for call in event.calls]

    def call(self, event: Event, number: int) -> PdkCall:
        """The call of an order of an event: over HTTP the probe asked for its orders first."""
        return event.calls[number + (self.kind == HTTP)]

    @property
    def name(self) -> str:
        """For the test: the file, the id, and what is called first."""
        methods = [
            method.removeprefix("kong.").replace("/", ".") for made in self.orders.values() for method, _ in made
        ]
        return f"{self.recording.name}-{self.id}-{'+'.join(self.orders)}-{methods[0] if methods else 'nothing'}"

    def failed_result(self, phase: str) -> int | None:
        """The number of the order in a phase that the recording server could not send, or not read the answer of."""
        if self.reference_server_failed:
            made = [result for result in self.results if result["phase"] == phase]
            for number, result in enumerate(made):
                if _NOT_SENT in result.get("error", ""):
                    return number
        return None

    def raw_request(self) -> bytes:
        """The request as it was really sent."""
        request = self.request
        orders = json.dumps({**self.orders, "case": self.id})
        lines = [f"{request['method']} {request['path']} HTTP/1.1".encode()]
        lines += [_header(name, value) for name, value in [*request["headers"], ["x-probe", orders]]]
        if self.body or request["method"] == "POST":
            lines.append(b"content-length: %d" % len(self.body))
        lines.append(b"connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


def _header(name: str, value: str) -> bytes:
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        raw = value.encode()
    return name.encode() + b": " + raw


@dataclass
class Recording:
    """A file of cases that were recorded over one protocol, with one interface file."""

    path: Path
    protocol: str
    cases: list[Case] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        return self.path.stem

    @cached_property
    def answered_methods(self) -> frozenset[str]:
        """The methods that Kong's interface file had, as far as the cases tell."""
        calls = [call for case in self.cases for event in case.events for call in event.calls]
        return frozenset(call.method for call in calls if not call.refused)

    @cached_property
    def extended(self) -> bool:
        """Whether the interface file of that Kong was extended."""
        return self.protocol == "ProtoBuf:1" and not self.answered_methods <= stock_methods()

    def kind(self, *kinds: str) -> list[Case]:
        return [case for case in self.cases if case.kind in kinds]

    @property
    def starts(self) -> list[Start]:
        return [item for case in self.cases for item in case.items if isinstance(item, Start)]

    def start_of(self, id: int, case: Case) -> Start | None:
        """The last StartInstance before a case that was answered with this id."""
        for earlier in reversed(self.cases[: case.index + 1]):
            for item in earlier.items:
                if isinstance(item, Start) and item.id == id:
                    return item
        return None


@cache
def schema() -> dict[str, Any]:
    """``rpc-schema.json``: the messages and methods of that Kong's interface file."""
    path = FOLDER / "rpc-schema.json"
    try:
        read: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RecordingError(f"{path} cannot be read ({error}); the recordings need it") from error
    return read


@cache
def node_id() -> str:
    """The id of the node that was recorded, as far as a case tells it."""
    results = (result for case in cases() for result in case.results)
    found = (result.get("value") for result in results if result["method"].replace("/", ".") == "kong.node.get_id")
    return next((id for id in found if isinstance(id, str)), "00000000-0000-4000-8000-000000000000")


@cache
def stock_methods() -> frozenset[str]:
    return frozenset(method["wire_name"] for method in schema()["methods"])


@cache
def recordings() -> list[Recording]:
    """All recordings in the folder; none where it is missing, which a test of its own reports.

    :raises RecordingError: a line that is not a case.
    """
    found = (_recording(path) for path in sorted(FOLDER.glob("*.jsonl")))
    return [recording for recording in found if recording.cases]


def cases(*kinds: str) -> list[Case]:
    """The cases of these kinds (``http``, ``stream``, ``certificate``) of all recordings; without kinds, all."""
    return [case for recording in recordings() for case in recording.cases if not kinds or case.kind in kinds]


def _recording(path: Path) -> Recording:
    recording = Recording(path, "")
    for number, content in _lines(path):
        try:
            case = case_of(recording, len(recording.cases), content)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError, WireError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else error
            raise RecordingError(
                f"{path}:{number}: not a case as the recordings' README describes it: {why}"
            ) from error
        recording.cases.append(case)
    return recording


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8") as lines:
        number = 0
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, json.loads(line)
        except ValueError as error:
            raise RecordingError(f"{path}:{number}: not JSON: {error}; each line is to be one case") from error


def case_of(recording: Recording, index: int, content: dict[str, Any]) -> Case:
    frames: list[Frame] = content["frames"]
    if not frames:
        raise ValueError("it has no frames")
    protocol = "MsgPack:1" if is_msgpack(frames) else "ProtoBuf:1"
    if recording.protocol not in ("", protocol):
        raise ValueError(f"it is {protocol}, the cases above are {recording.protocol}")
    recording.protocol = protocol
    return Case(
        recording=recording,
        index=index,
        id=content["id"],
        kind=_kind(content),
        orders=content["calls"],
        results=content["results"],
        reference_server_failed=bool(content.get("reference_server_failed")),
        items=items(frames),
        recorded={key: value for key, value in content.items() if key != "frames"},
    )


def _kind(content: dict[str, Any]) -> str:
    if "request" in content:
        return HTTP
    if "tls_sni" in content:
        return CERTIFICATE
    if content.get("subsystem") == "stream":
        return STREAM
    raise ValueError("it is neither a request nor a stream nor a handshake")
