"""The recordings of a real Kong in the folder that KONG_RECORDINGS names: files of cases."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from conformance.frames import Frame, Sent, is_msgpack, read_frames
from kong_pdk.wire.calls import HandleEvent, StartInstance
from kong_pdk.wire.interface import rpc_name
from kong_pdk.wire.pdk_functions import METHODS, Method
from kong_pdk.wire.wire_errors import WireError

FOLDER = Path(os.environ.get("KONG_RECORDINGS") or Path(__file__).parents[3] / "shared" / "kong-3.9.3")
STOCK_INTERFACE = Path(__file__).parents[2] / "docker/embedded/files/usr/local/kong/include/kong/pluginsocket.proto"
HTTP, STREAM, CERTIFICATE = "http", "stream", "certificate"
_NOT_SENT = "not sendable or not decodable"


class RecordingError(Exception):
    """A file without valid recordings; the message names the file and the line."""


@dataclass(frozen=True)
class Case:
    """One recorded request, stream or handshake, by ``kind``; ``sent`` holds Kong's calls to the plugin server."""

    recording: Recording
    index: int
    id: int
    kind: str
    orders: dict[str, list[Any]]
    results: list[dict[str, Any]]
    reference_server_failed: bool
    sent: list[Sent] = field(repr=False)
    recorded: dict[str, Any] = field(repr=False)

    @property
    def protocol(self) -> str:
        return self.recording.protocol

    @property
    def name(self) -> str:
        """The test's name: the file, the id, and the first calls."""
        methods = [order[0].removeprefix("kong.").replace("/", ".") for made in self.orders.values() for order in made]
        return f"{self.recording.name}-{self.id}-{'+'.join(self.orders)}-{methods[0] if methods else 'nothing'}"

    @property
    def body(self) -> bytes:
        """The body of the request."""
        return bytes.fromhex(self.recorded.get("request", {}).get("body_hex") or "")

    @cached_property
    def events(self) -> list[Sent]:
        return [sent for sent in self.sent if isinstance(sent.call, HandleEvent)]

    @property
    def orders_come_first(self) -> int:
        """The number of calls by which the probe asks for its orders; over HTTP the orders are in a header."""
        return int(self.kind == HTTP)

    def results_of(self, phase: str) -> list[dict[str, Any]]:
        return [result for result in self.results if result["phase"] == phase]

    def failed_result(self, phase: str) -> int | None:
        """The number of the order in a phase that the recording server did not send, or did not read the answer of."""
        errors = [result.get("error", "") for result in self.results_of(phase)]
        failed = (number for number, error in enumerate(errors) if _NOT_SENT in error)
        return next(failed, None) if self.reference_server_failed else None

    def raw_request(self) -> bytes:
        """The request's bytes as they were sent."""
        request = self.recorded["request"]
        orders = json.dumps({**self.orders, "case": self.id})
        lines = [f"{request['method']} {request['path']} HTTP/1.1".encode()]
        lines += [_header(name, value) for name, value in [*request["headers"], ["x-probe", orders]]]
        if self.body or request["method"] == "POST":
            lines.append(b"content-length: %d" % len(self.body))
        return b"\r\n".join([*lines, b"connection: close", b"", self.body])


def _header(name: str, value: str) -> bytes:
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        raw = value.encode()
    return name.encode() + b": " + raw


@dataclass
class Recording:
    """A file of cases, recorded over one protocol with one interface file."""

    path: Path
    protocol: str = ""
    cases: list[Case] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        return self.path.stem

    @cached_property
    def answered_methods(self) -> frozenset[str]:
        """The methods of Kong's interface file, as far as the cases show."""
        calls = [call for case in self.cases for event in case.events for call in event.pdk_calls]
        return frozenset(call.method for call in calls if not call.refused)

    @cached_property
    def extended(self) -> bool:
        """Whether that Kong's interface file was extended."""
        return self.protocol == "ProtoBuf:1" and not self.answered_methods <= stock_methods()

    def of_kind(self, *kinds: str) -> list[Case]:
        return [case for case in self.cases if case.kind in kinds]

    def starts(self, last: Case | None = None) -> list[Sent]:
        """Give the StartInstance calls before the end of a case."""
        cases = self.cases[: last.index + 1] if last else self.cases
        return [sent for case in cases for sent in case.sent if isinstance(sent.call, StartInstance)]

    def start_of(self, instance: int | None, case: Case) -> Sent | None:
        """Find the last StartInstance before a case that was answered with this id."""
        return next((sent for sent in reversed(self.starts(case)) if sent.instance == instance), None)

    def interface_file(self) -> str:
        """Give that Kong's interface file, with the lines that were appended to it.

        Answered methods that the recordings' schema does not name belong to our extension.
        """
        text = STOCK_INTERFACE.read_text("utf-8")
        if not self.extended:
            return text
        rows = [(row["rpc"], row["wire_name"], _short(row["input"]), _short(row["output"])) for row in _extension()]
        extension_methods = {name for name in self.answered_methods if name in METHODS and METHODS[name].extended}
        more = [METHODS[name] for name in sorted(extension_methods - {row[1] for row in rows})]
        rows += [(rpc_name(method), method.name, method.input, method.output) for method in more]
        end = text.rindex("}")
        return text[:end] + "".join(f"    {_line(*row)}\n" for row in rows) + text[end:]


def _line(rpc: str, name: str, *messages: str) -> str:
    of_google = ("Empty", "Value", "ListValue", "Struct")
    input, output = (f"google.protobuf.{each}" if each in of_google else each for each in messages)
    head = f"rpc {rpc}({input}) returns ({output})"
    return f'{head} {{ option (MethodName) = "{name}"; }}' if "/" in name else f"{head};"


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
def stock_methods() -> frozenset[str]:
    return frozenset(method["wire_name"] for method in schema()["methods"])


def _extension() -> list[dict[str, Any]]:
    """Give the methods that were appended to that Kong's interface file."""
    return next((rows for key, rows in schema().items() if key.startswith("extension")), [])


@cache
def recorded_methods() -> dict[str, Method]:
    """Give the methods of the recorded Kong by their names on the wire; our methods where the schema lacks one."""
    rows = [*schema()["methods"], *_extension()]
    named = [Method(row["wire_name"], _short(row["input"]), _short(row["output"])) for row in rows]
    return {**METHODS, **{method.name: method for method in named}}


def _short(type_name: str) -> str:
    return type_name.rpartition(".")[2]


@cache
def functions_refused_in(phase: str, kind: str) -> frozenset[str]:
    """Give the functions that Kong refused in a phase, from our own copy where the recordings have no table."""
    column = "log (stream)" if phase == "log" and kind == STREAM else phase
    measured = FOLDER / "pdk-phases.tsv"
    copy = resources.files("kong_pdk.wire").joinpath("phases.tsv")
    text = measured.read_text("utf-8") if measured.exists() else copy.read_text("utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return frozenset(row["function"] for row in rows if row.get(column) == "refused")


@cache
def node_id() -> str:
    """Give the id of the recorded node, as far as a case shows it."""
    results = (result for case in cases() for result in case.results)
    found = (result.get("value") for result in results if result["method"].replace("/", ".") == "kong.node.get_id")
    return next((id for id in found if isinstance(id, str)), "00000000-0000-4000-8000-000000000000")


@cache
def recordings() -> list[Recording]:
    """Read all recordings in the folder; none where it is missing, which another test reports.

    :raises RecordingError: a line that is not a case.
    """
    return [recording for recording in map(read_recording, sorted(FOLDER.glob("*.jsonl"))) if recording.cases]


def cases(*kinds: str) -> list[Case]:
    """Give the cases of these kinds (``http``, ``stream``, ``certificate``) of all recordings; without kinds, all."""
    return [case for recording in recordings() for case in recording.cases if not kinds or case.kind in kinds]


def read_recording(path: Path) -> Recording:
    recording = Recording(path)
    for number, content in _lines(path):
        _add_line(recording, number, content)
    return recording


def _add_line(recording: Recording, number: int, content: Any) -> None:
    try:
        add_case(recording, content)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, WireError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else error
        raise RecordingError(
            f"{recording.path}:{number}: not a case as the recordings' README describes it: {why}"
        ) from error


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    number = 0
    try:
        for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
            if line.strip():
                yield number, json.loads(line)
    except ValueError as error:
        raise RecordingError(f"{path}:{number}: not JSON: {error}; each line is to be one case") from error


def add_case(recording: Recording, content: dict[str, Any]) -> Case:
    frames: list[Frame] = content["frames"]
    if not frames:
        raise ValueError("it has no frames")
    protocol = "MsgPack:1" if is_msgpack(frames) else "ProtoBuf:1"
    if recording.protocol not in ("", protocol):
        raise ValueError(f"it is {protocol}, the cases above are {recording.protocol}")
    recording.protocol = protocol
    case = Case(
        recording=recording,
        index=len(recording.cases),
        id=content["id"],
        kind=_kind(content),
        orders=content["calls"],
        results=content["results"],
        reference_server_failed=bool(content.get("reference_server_failed")),
        sent=read_frames(frames),
        recorded={key: value for key, value in content.items() if key != "frames"},
    )
    recording.cases.append(case)
    return case


def _kind(content: dict[str, Any]) -> str:
    if "request" in content:
        return HTTP
    if "tls_sni" in content:
        return CERTIFICATE
    if content.get("subsystem") == "stream":
        return STREAM
    raise ValueError("it is neither a request nor a stream nor a handshake")
