"""The recordings of a real Kong in the folder that KONG_RECORDINGS names: files of cases."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from conformance.frames import Sent, is_msgpack, read_frames
from kong_pdk.wire.calls import HandleEvent, StartInstance
from kong_pdk.wire.interface import Interface
from kong_pdk.wire.pdk_functions import METHODS, Method
from kong_pdk.wire.wire_errors import WireError

FOLDER = Path(os.environ.get("KONG_RECORDINGS") or Path(__file__).parents[3] / "shared" / "kong-3.9.3")
HTTP, STREAM, CERTIFICATE = "http", "stream", "certificate"


class RecordingError(Exception):
    """A file without valid recordings; the message names the file and the line."""


class Case:
    """One recorded request, stream or handshake, by ``kind``; ``sent`` is what Kong sent to the plugin server.

    :param recorded: the line of the file, without frames.
    :raises KeyError, ValueError: it is not as the recordings' README says.
    """

    def __init__(self, recording: Recording, recorded: dict[str, Any], sent: list[Sent]) -> None:
        self.recording = recording
        self.index = len(recording.cases)
        self.recorded = recorded
        self.sent = sent
        self.events = [each for each in sent if isinstance(each.call, HandleEvent)]
        self.id: int = recorded["id"]
        self.orders: dict[str, list[Any]] = recorded["calls"]
        self.results: list[dict[str, Any]] = recorded["results"]
        self.reference_server_failed = bool(recorded.get("reference_server_failed"))
        self.kind = HTTP if "request" in recorded else CERTIFICATE if "tls_sni" in recorded else STREAM
        if self.kind == STREAM and recorded.get("subsystem") != "stream":
            raise ValueError("it is neither a request nor a stream nor a handshake")
        # Over HTTP a first call in each event asks for the orders, which are in a header.
        self.orders_come_first = int(self.kind == HTTP)
        recording.cases.append(self)

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

    def results_of(self, phase: str) -> list[dict[str, Any]]:
        return [result for result in self.results if result["phase"] == phase]

    def failed_result(self, phase: str) -> int | None:
        """The number of the order in a phase that the recording server did not send, or did not read the answer of."""
        errors = [result.get("error", "") for result in self.results_of(phase)]
        failed = (number for number, error in enumerate(errors) if "not sendable or not decodable" in error)
        return next(failed, None) if self.reference_server_failed else None

    def raw_request(self) -> bytes:
        """The request's bytes as they were sent."""
        request = self.recorded["request"]
        orders = json.dumps({**self.orders, "case": self.id})
        lines = [f"{request['method']} {request['path']} HTTP/1.1".encode()]
        for name, value in [*request["headers"], ["x-probe", orders]]:
            latin = all(ord(character) < 256 for character in value)
            lines.append(f"{name}: {value}".encode("latin-1" if latin else "utf-8"))
        if self.body or request["method"] == "POST":
            lines.append(b"content-length: %d" % len(self.body))
        return b"\r\n".join([*lines, b"connection: close", b"", self.body])


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
    def _answered_methods(self) -> set[str]:
        calls = (call for case in self.cases for event in case.events for call in event.pdk_calls)
        return {call.method for call in calls if not call.refused}

    @cached_property
    def extended(self) -> bool:
        """Whether the interface file of that Kong was extended, as far as the cases tell."""
        return self.protocol == "ProtoBuf:1" and not self._answered_methods <= stock_methods()

    def interface(self) -> Interface:
        """The methods of that Kong's interface file. Those that it answered, and that the recordings' schema does
        not name, are those of our extension."""
        names = set(stock_methods())
        if self.extended:
            names |= {_method(row).name for row in _extension()} | self._answered_methods
        return Interface(method for method in recorded_methods().values() if method.name in names)

    def of_kind(self, kind: str) -> list[Case]:
        return [case for case in self.cases if case.kind == kind]

    def starts(self, last: Case | None = None) -> list[Sent]:
        """Give the StartInstance calls before the end of a case."""
        cases = self.cases[: last.index + 1] if last else self.cases
        return [sent for case in cases for sent in case.sent if isinstance(sent.call, StartInstance)]

    def start_of(self, instance: int | None, case: Case) -> Sent | None:
        """Find the last StartInstance before a case that was answered with this id."""
        return next((sent for sent in reversed(self.starts(case)) if sent.instance == instance), None)


def read_recording(path: Path) -> Recording:
    """Read a file.

    :raises RecordingError: a line that is not a case.
    """
    recording = Recording(path)
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip():
            _add_line(recording, number, line)
    return recording


def _add_line(recording: Recording, number: int, line: bytes) -> None:
    try:
        content = json.loads(line)
        if not (frames := content.pop("frames")):
            raise ValueError("it has no frames")
        protocol = "MsgPack:1" if is_msgpack(frames) else "ProtoBuf:1"
        if recording.protocol not in ("", protocol):
            raise ValueError(f"it is {protocol}, the cases above are {recording.protocol}")
        recording.protocol = protocol
        Case(recording, content, read_frames(frames))
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, WireError) as error:
        kind = {KeyError: "no ", json.JSONDecodeError: "not JSON: "}.get(type(error), "")
        text = f"not a case as the recordings' README says: {kind}{error}"
        raise RecordingError(f"{recording.path}:{number}: {text}") from error


@cache
def recordings() -> list[Recording]:
    """All recordings in the folder; none where it is missing, which a test of its own reports."""
    return [recording for recording in map(read_recording, sorted(FOLDER.glob("*.jsonl"))) if recording.cases]


def cases() -> list[Case]:
    """The cases of all recordings."""
    return [case for recording in recordings() for case in recording.cases]


@cache
def schema() -> dict[str, Any]:
    """``rpc-schema.json``: the messages and methods of that Kong's interface file."""
    read: dict[str, Any] = json.loads((FOLDER / "rpc-schema.json").read_text("utf-8"))
    return read


def _extension() -> list[dict[str, Any]]:
    """Give the methods that were appended to that Kong's interface file."""
    return next((rows for key, rows in schema().items() if key.startswith("extension")), [])


def _method(row: dict[str, Any]) -> Method:
    return Method(row["wire_name"], *(row[side].rpartition(".")[2] for side in ("input", "output")))


@cache
def stock_methods() -> frozenset[str]:
    return frozenset(row["wire_name"] for row in schema()["methods"])


@cache
def recorded_methods() -> dict[str, Method]:
    """Give the methods of the recorded Kong by their names on the wire; our methods where the schema lacks one."""
    named = map(_method, [*schema()["methods"], *_extension()])
    return {**METHODS, **{method.name: method for method in named}}


@cache
def functions_refused_in(phase: str, kind: str) -> frozenset[str]:
    """Give the functions that Kong refused in a phase, from our own copy where the recordings have no table."""
    column = "log (stream)" if phase == "log" and kind == STREAM else phase
    measured = FOLDER / "pdk-phases.tsv"
    table = measured if measured.exists() else resources.files("kong_pdk.wire").joinpath("phases.tsv")
    rows = csv.DictReader(table.read_text("utf-8").splitlines(), delimiter="\t")
    return frozenset(row["function"] for row in rows if row.get(column) == "refused")


@cache
def node_id() -> str:
    """Give the id of the recorded node, as far as a case shows it."""
    results = (result for case in cases() for result in case.results)
    found = (result.get("value") for result in results if result["method"].replace("/", ".") == "kong.node.get_id")
    return next((id for id in found if isinstance(id, str)), "00000000-0000-4000-8000-000000000000")
