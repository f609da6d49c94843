"""Finds the route of a request by Kong's rules (router flavour ``traditional_compatible``)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kong_pdk.gateway import paths
from kong_pdk.gateway.entities import Config, Route, Service
from kong_pdk.gateway.exchange import RawHeaders

GRPC = frozenset({"grpc", "grpcs"})
_HTTP = frozenset({"http", "https", *GRPC})
_NAMED_GROUP = re.compile(r"\(\?<(?![=!])")


def compile_regex(pattern: str) -> re.Pattern[str]:
    """A regular expression as Kong writes it, with ``(?<name>...)`` for named groups. Raises re.error."""
    return re.compile(_NAMED_GROUP.sub("(?P<", pattern))


@dataclass(frozen=True)
class Target:
    """What of a request decides its route. ``host`` is lower-cased and without a port."""

    method: str
    scheme: str
    host: str
    port: int
    path: str
    headers: RawHeaders


@dataclass(frozen=True)
class Match:
    """The route of a request. ``matched`` is the part of the path that the route's path stood for."""

    route: Route
    service: Service | None
    matched: str
    unnamed: tuple[str, ...] = ()
    named: Mapping[str, str] | None = None


class _Hosts:
    """``hosts`` of a route: exact names and names with one ``*``, each with or without a port."""

    def __init__(self, hosts: Iterable[str]) -> None:
        names = [host.lower() for host in hosts]
        self.wild = any("*" in name for name in names)
        self._exact = {name for name in names if "*" not in name}
        self._prefixes = tuple(name[:-1] for name in names if name.endswith("*"))
        self._suffixes = tuple(name[1:] for name in names if name.startswith("*"))

    def matches(self, target: Target) -> bool:
        with_port = f"{target.host}:{target.port}"
        if target.host in self._exact or with_port in self._exact:
            return True
        if any(host.endswith(self._suffixes) for host in (target.host, with_port) if self._suffixes):
            return True
        return any(host.startswith(self._prefixes) for host in (target.host, with_port) if self._prefixes)


class _Header:
    """One header condition of a route: any of some values, or one regular expression (``~*``)."""

    def __init__(self, name: str, values: tuple[str, ...]) -> None:
        self._name = name.lower().encode()
        self._regex: re.Pattern[str] | None = None
        if len(values) == 1 and values[0].startswith("~*"):
            self._regex = re.compile(compile_regex(values[0][2:]).pattern, re.IGNORECASE)
        self._values = {value.lower() for value in values}

    def matches(self, headers: RawHeaders) -> bool:
        for name, raw in headers:
            if name.lower() == self._name:
                value = raw.decode("utf-8", "surrogateescape")
                if self._regex.search(value) if self._regex else value.lower() in self._values:
                    return True
        return False


class _Rule:
    """One path of one route with the route's other conditions, and its place among all rules."""

    def __init__(self, route: Route, path: str | None) -> None:
        self.route = route
        self.methods = frozenset(route.methods) if route.methods else None
        self.hosts = _Hosts(route.hosts) if route.hosts else None
        self.headers = [_Header(name, values) for name, values in (route.headers or {}).items()]
        self.regex = compile_regex(path[1:]) if path and path.startswith("~") else None
        self.prefix = path or ""
        conditions = (self.methods, self.hosts, self.headers, path)
        self.rank = (
            sum(bool(condition) for condition in conditions),
            len(self.headers),
            self.hosts is not None and not self.hosts.wild,
            self.regex is not None,
            route.regex_priority if self.regex else 0,
            0 if self.regex else len(self.prefix),
        )

    def match(self, target: Target) -> re.Match[str] | bool:
        """False, True for a plain path (or none), or what a regex path found."""
        if self.methods is not None and target.method not in self.methods:
            return False
        if self.regex is None and not target.path.startswith(self.prefix):
            return False
        if self.hosts is not None and not self.hosts.matches(target):
            return False
        if not all(header.matches(target.headers) for header in self.headers):
            return False
        return True if self.regex is None else self.regex.match(target.path) or False


class Router:
    """The routes of a configuration, most specific first."""

    def __init__(self, config: Config) -> None:
        self._services = config.services
        rules: list[_Rule] = []
        for route in sorted(config.routes.values(), key=lambda route: route.order):
            if route.service_id is not None:
                service = config.services.get(route.service_id)
                if service is not None and not service.enabled:
                    continue
            if _HTTP.intersection(route.protocols):
                rules.extend(_Rule(route, path) for path in route.paths or (None,))
        self._rules = sorted(rules, key=lambda rule: rule.rank, reverse=True)

    def match(self, target: Target) -> Match | None:
        """The route of a request, or None. ``target.path`` must be normalised."""
        for rule in self._rules:
            found = rule.match(target)
            if found is not False:
                return self._matched(rule, found)
        return None

    def _matched(self, rule: _Rule, found: re.Match[str] | bool) -> Match:
        service_id = rule.route.service_id
        service = self._services.get(service_id) if service_id else None
        if isinstance(found, bool):
            return Match(rule.route, service, rule.prefix)
        named = {name: value for name, value in found.groupdict().items() if value is not None}
        unnamed = tuple(value or "" for value in found.groups())
        return Match(rule.route, service, found[0], unnamed, named)


def upstream_path(match: Match, path: bytes) -> bytes:
    """The path to ask the upstream for, escaped. ``path`` is the request's, normalised."""
    base = (match.service.path if match.service else None) or "/"
    matched = len(match.matched.encode("utf-8", "surrogateescape"))
    route = match.route
    return paths.escape(paths.join(base.encode(), path, matched, route.strip_path, route.path_handling))
