"""Splits a declarative configuration into entries in Kong's flat form, and checks each entry by itself."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from kong_pdk.gateway import paths
from kong_pdk.gateway.declarative.core_schema import (
    ANNOTATIONS,
    FIELDS,
    FOREIGN,
    FORMATS,
    IGNORED,
    META,
    NESTED,
    NOT_OPEN_SOURCE,
    OTHER_ENTITIES,
    SKIPPED,
    Field,
    route_faults,
    service_faults,
)
from kong_pdk.gateway.declarative.document import Place
from kong_pdk.gateway.routing import GRPC, compile_regex
from kong_pdk.gateway.stream.routes import place_faults, unserved_protocols
from kong_pdk.gateway.vaults import ENV
from kong_pdk.plugin import bundled
from kong_pdk.schema.config_values import validate_config

_HOST = re.compile(r"[A-Za-z0-9*_.\[\]:-]+")
# In formats 1.1 and 2.1, a path with any other character is a regular expression.
_PLAIN_PATH = re.compile(r"[a-zA-Z0-9.\-_~/%]*")


_NO_GRPC = "the embedded gateway has neither gRPC nor HTTP/2"
_BUNDLED_HINT = "it is one of Kong's own: add it, or the word bundled, to KONG_PLUGINS"


class NoticeKind(Enum):
    """Kinds of notices that callers treat differently."""

    SKIPPED = "the embedded gateway does not serve it"
    REFUSED = "the open-source Kong refuses it"


@dataclass(frozen=True)
class Fault:
    """A fault or a notice at a place of the document.

    ``is_complete`` is whether ``message`` stands alone; otherwise it is printed after its place.
    """

    place: Place
    message: str
    hint: str | None = None
    plugin: str | None = None
    is_complete: bool = False
    notice_kind: NoticeKind | None = None


@dataclass
class Entry:
    """One entity. ``values`` has all defaults; ``references`` has the values as written in the file."""

    kind: str
    place: Place
    values: dict[str, Any]
    parents: dict[str, Entry] = field(default_factory=dict)
    references: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    has_own_id: bool = False


class Entries:
    """Collects ``all`` entries of a document, with their ``faults`` and ``notices``.

    ``broken`` are plugins that do not load, for a reason that was reported before.
    """

    def __init__(self, schemas: Mapping[str, Iterable[Field] | None], broken: Collection[str] = ()) -> None:
        self._schemas = schemas
        self._broken = broken
        self._old_paths = False
        self._certificates: set[object] = set()
        self._skipped_fields: dict[str, dict[str, Place]] = {}
        self.all: list[Entry] = []
        self.faults: list[Fault] = []
        self.notices: list[Fault] = []

    def collect(self, document: Any) -> None:
        """Collect the entries of a document."""
        if not isinstance(document, dict):
            self.faults.append(Fault((), "expected a record", "begin the file with _format_version"))
            return
        self._check_metadata(document)
        self._certificates = _ids(document.get("certificates"))
        for kind, value in document.items():
            if kind in FIELDS:
                self._collect_list(kind, value, (kind,), {})
            elif kind in OTHER_ENTITIES:
                if value:
                    self._add_skipped((kind,), f"{kind} are skipped: the embedded gateway does not have them")
            elif kind not in META:
                self.faults.append(Fault((kind,), "unknown field"))
        self._add_refused("", document, ())
        self._add_skipped_fields()

    def _add_refused(self, kind: str, fields: Mapping[str, Any], place: Place) -> None:
        for name in sorted(NOT_OPEN_SOURCE.get(kind, frozenset()).intersection(fields)):
            text = f"{name} is for decK and Kong Enterprise: the open-source Kong refuses the field"
            self._add_notice((*place, name), text, notice_kind=NoticeKind.REFUSED)

    def _add_notice(
        self, place: Place, text: str, plugin: str | None = None, notice_kind: NoticeKind | None = None
    ) -> None:
        self.notices.append(Fault(place, text, plugin=plugin, is_complete=True, notice_kind=notice_kind))

    def _add_skipped(self, place: Place, text: str) -> None:
        self._add_notice(place, text, notice_kind=NoticeKind.SKIPPED)

    def _add_skipped_fields(self) -> None:
        """Add a notice for each kind of entity with the fields that have no effect, at the first place of one."""
        for kind, places in self._skipped_fields.items():
            names = sorted(places)
            listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
            verb, pronoun = ("is", "it") if len(names) == 1 and not names[0].endswith("s") else ("are", "them")
            text = f"{listed} of {kind} {verb} skipped: the embedded gateway does not have {pronoun}"
            self._add_skipped(next(iter(places.values())), text)

    def _check_metadata(self, document: dict[str, Any]) -> None:
        version = document.get("_format_version")
        if version is None:
            self.faults.append(Fault((), "in _format_version: required field missing", 'add _format_version: "3.0"'))
        elif not isinstance(version, str):
            self.faults.append(Fault(("_format_version",), "expected a string", "put it in quotes"))
        elif version not in FORMATS:
            self.faults.append(Fault(("_format_version",), f"expected one of: {', '.join(FORMATS)}"))
        self._old_paths = version in FORMATS[:-1]
        if not isinstance(document.get("_transform", True), bool):
            self.faults.append(Fault(("_transform",), "expected a boolean"))

    def _collect_list(self, kind: str, value: Any, place: Place, parents: dict[str, Entry]) -> None:
        if value is None or value == {}:
            return
        if not isinstance(value, list):
            self.faults.append(Fault(place, "expected an array"))
            return
        for index, each in enumerate(value):
            self._collect_entry(kind, each, (*place, index), parents)

    def _collect_entry(self, kind: str, value: Any, place: Place, parents: dict[str, Entry]) -> None:
        if kind == "targets" and isinstance(value, str):
            value = {"target": value}
        if not isinstance(value, dict):
            self.faults.append(Fault(place, "expected a record"))
            return
        nested, foreign = NESTED.get(kind, {}), FOREIGN.get(kind, {})
        ignored = IGNORED.get(kind, frozenset())
        checked_elsewhere = {*nested, *foreign, *ignored, *ANNOTATIONS}
        values = {name: member for name, member in value.items() if name not in checked_elsewhere}
        entry = Entry(kind, place, {}, parents)
        entry.references = {name: value[name] for name in foreign if value.get(name) is not None}
        self._expand_url(kind, values, place)
        entry.values, errors = validate_config(FIELDS[kind], values)
        self.faults.extend(_faults(errors, place))
        entry.has_own_id = isinstance(entry.values.get("id"), str)
        self._check(entry, value)
        self._client_certificate(entry, value.get("client_certificate"))
        self._add_refused(kind, value, place)
        for name in SKIPPED.get(kind, frozenset()).intersection(name for name, member in value.items() if member):
            self._skipped_fields.setdefault(kind, {}).setdefault(name, (*place, name))
        self.all.append(entry)
        for name, field_name in nested.items():
            self._collect_list(name, value.get(name), (*place, name), {**_inherited(name, parents), field_name: entry})

    def _expand_url(self, kind: str, values: dict[str, Any], place: Place) -> None:
        """Replace a service's ``url`` by protocol, host, port and path."""
        url = values.pop("url", None) if kind == "services" else None
        if url is None:
            return
        try:
            if not isinstance(url, str):
                raise ValueError("expected a string")
            try:
                parts = urlsplit(url)
                port = parts.port
            except ValueError:  # its text may quote a part of a password
                raise ValueError(
                    "invalid url; write %2F for / in its user and password, and a port as a number"
                ) from None
            if not parts.hostname:
                raise ValueError("missing host in url")
        except ValueError as error:
            self.faults.append(Fault((*place, "url"), str(error)))
            values.setdefault("host", "invalid")
            return
        default = 443 if parts.scheme in {"https", "grpcs", "tls"} else 80
        values["protocol"], values["host"] = parts.scheme, parts.hostname
        values["port"] = default if port is None else port
        if parts.path:
            values["path"] = parts.path

    def _check(self, entry: Entry, written: dict[str, Any]) -> None:
        if entry.kind == "routes":
            self.faults.extend(_route_faults(entry, written, self._old_paths))
            for text in (
                *_unserved_grpc(entry.values.get("protocols")),
                *unserved_protocols(entry.values.get("protocols")),
            ):
                self._add_skipped(entry.place, text)
            if entry.values.get("snis"):
                self._add_skipped(entry.place, "snis of a route are skipped: the embedded gateway does not match them")
        elif entry.kind == "services":
            for path, fault, hint in service_faults(entry.values, written):
                self.faults.append(Fault((*entry.place, *path), fault, hint))
            if entry.values.get("protocol") in GRPC:
                self._add_skipped(entry.place, f"services for {entry.values['protocol']} are not served: {_NO_GRPC}")
        elif entry.kind == "vaults":
            self._vault(entry, written.get("config"))
        elif entry.kind == "consumers" and not (entry.values.get("username") or entry.values.get("custom_id")):
            message = "at least one of these fields must be non-empty: 'custom_id', 'username'"
            self.faults.append(Fault(entry.place, message))
        elif entry.kind == "targets":
            self.faults.extend(_target_faults(entry))
        elif entry.kind == "plugins":
            self._consumer_group(entry, written.get("consumer_group"))
            self._plugin(entry, written.get("config"))

    def _client_certificate(self, entry: Entry, written: Any) -> None:
        if written is None or "client_certificate" not in IGNORED.get(entry.kind, frozenset()):
            return
        place = (*entry.place, "client_certificate")
        certificate = written.get("id") if isinstance(written, dict) else written
        if not isinstance(certificate, str):
            self.faults.append(Fault(place, "expected a string or a record with an id"))
        elif certificate not in self._certificates:
            message = f"invalid reference 'client_certificate: {certificate}' (no such entry in 'certificates')"
            self.faults.append(Fault(place, message))

    def _plugin(self, entry: Entry, config: Any) -> None:
        name = entry.values.get("name")
        if not isinstance(name, str):
            return
        if name not in self._schemas and name in self._broken:
            message = f"plugin '{name}' does not load, for the reason above"
            self.faults.append(Fault((*entry.place, "name"), message))
            return
        if name not in self._schemas:
            message = f"plugin '{name}' not enabled; add it to the 'plugins' configuration property"
            self.faults.append(Fault((*entry.place, "name"), message, _BUNDLED_HINT if name in bundled() else None))
            return
        place = (*entry.place, "config")
        if config is not None and not isinstance(config, dict) and config != []:
            self.faults.append(Fault(place, "expected a record"))
            return
        fields = self._schemas[name]
        if fields is None:
            text = f"the configuration of plugin {name} is not checked: its schema is not known here"
            self._add_notice(place, text, plugin=name)
            entry.config = config if isinstance(config, dict) else {}
            return
        entry.config, errors = validate_config(fields, config or {})
        self.faults.extend(_faults(errors, place))

    def _consumer_group(self, entry: Entry, group: Any) -> None:
        if group is None:
            return
        name = group if isinstance(group, str) else json.dumps(group, sort_keys=True, default=str)
        entry.values["consumer_group"] = name
        scope = f"plugin {entry.values.get('name')} for consumer group {name}"
        self._add_skipped(entry.place, f"{scope} is skipped: the embedded gateway does not have them")

    def _vault(self, entry: Entry, config: Any) -> None:
        kind, prefix = entry.values.get("name"), entry.values.get("prefix")
        place = (*entry.place, "config")
        if isinstance(config, dict):
            entry.config = config
        elif config not in (None, []):
            self.faults.append(Fault(place, "expected a record"))
        if not isinstance(entry.config.get("prefix", ""), str):
            self.faults.append(Fault((*place, "prefix"), "expected a string"))
        if isinstance(kind, str) and kind != ENV:
            self._add_skipped(
                entry.place,
                f"vault {prefix} is skipped: the embedded gateway has no vault of the kind {kind}, only {ENV}",
            )


def _ids(entities: Any) -> set[object]:
    """The ids in a list of entities."""
    entries = entities if isinstance(entities, list) else ()
    return {entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)}


def _inherited(kind: str, parents: dict[str, Entry]) -> dict[str, Entry]:
    """The outer entities that apply to a nested entity: for a plugin of a route inside a service, only the route."""
    return {} if kind == "plugins" else parents


def _faults(errors: Mapping[str | int, Any], place: Place) -> Iterator[Fault]:
    for key, error in errors.items():
        if key == "@entity":
            for message in error if isinstance(error, list) else [error]:
                yield Fault(place, str(message))
            continue
        inner = (*place, key - 1 if isinstance(key, int) else key)
        if isinstance(error, dict):
            yield from _faults(error, inner)
        else:
            for message in error if isinstance(error, list) else [error]:
                yield Fault(inner, str(message))


def _route_faults(entry: Entry, written_route: Mapping[str, Any], old_paths: bool) -> Iterator[Fault]:
    values = entry.values
    protocols = values.get("protocols")
    if isinstance(protocols, list) and all(isinstance(protocol, str) for protocol in protocols):
        for path, fault, hint in route_faults(written_route, protocols):
            yield Fault((*entry.place, *path), fault, hint)
    for place, fault in place_faults(values):
        yield Fault((*entry.place, *place), fault)
    written_paths = values.get("paths")
    if isinstance(written_paths, list):
        values["paths"] = written_paths = [_path_in_format_3(path) if old_paths else path for path in written_paths]
        for index, path in enumerate(written_paths):
            yield from _path_faults(path, (*entry.place, "paths", index))
    hosts = values.get("hosts")
    for index, host in enumerate(hosts if isinstance(hosts, list) else ()):
        if message := _host_fault(host):
            yield Fault((*entry.place, "hosts", index), message)
    headers = values.get("headers")
    for name, expected in (headers if isinstance(headers, dict) else {}).items():
        if isinstance(expected, list) and len(expected) == 1 and str(expected[0]).startswith("~*"):
            yield from _regex_faults(str(expected[0])[2:], (*entry.place, "headers", name))


def _unserved_grpc(protocols: object) -> Iterator[str]:
    for protocol in sorted(GRPC):
        if isinstance(protocols, list) and protocol in protocols:
            yield f"routes for {protocol} are not served: {_NO_GRPC}"


def _host_fault(host: Any) -> str | None:
    if not isinstance(host, str) or not host:
        return None
    if host.count("*") > 1:
        return "invalid wildcard: must have at most one wildcard"
    if "*" in host and not (host.startswith("*.") or host.endswith(".*")):
        return "invalid wildcard: must be placed at leftmost or rightmost label"
    if not _HOST.fullmatch(host):
        return f"invalid hostname: {host}"
    return None


def _path_in_format_3(path: Any) -> Any:
    """A path of format 1.1 or 2.1 in format 3.0."""
    return f"~{path}" if isinstance(path, str) and not _PLAIN_PATH.fullmatch(path) else path


def _path_faults(path: Any, place: Place) -> Iterator[Fault]:
    if not isinstance(path, str):
        return
    if path.startswith("~"):
        yield from _regex_faults(path[1:], place)
    elif path.startswith("/"):
        raw = path.encode()
        normalized = paths.normalize(raw).decode("utf-8", "surrogateescape")
        if normalized != path and "//" not in path:
            yield Fault(place, f"non-normalized path, consider use '{normalized}' instead")


def _regex_faults(pattern: str, place: Place) -> Iterator[Fault]:
    try:
        compile_regex(pattern)
    except re.error as error:
        yield Fault(place, f"invalid regex: '{pattern}' ({error})")


def _target_faults(entry: Entry) -> Iterator[Fault]:
    target = entry.values.get("target")
    if isinstance(target, str) and split_target(target) is None:
        yield Fault((*entry.place, "target"), f"Invalid target ('{target}'); not a valid hostname or ip address")


def split_target(target: str) -> tuple[str, int] | None:
    """Host and port of a target, with 8000 as the default port; None if it is not an address."""
    try:
        parts = urlsplit(f"//{target}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or parts.path or parts.query or parts.username is not None or " " in target:
        return None
    return host, 8000 if port is None else port
