"""Finds the route of a request like Kong's router flavour ``traditional_compatible``, and sets the upstream."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kong_pdk.gateway import paths
from kong_pdk.gateway.entities import Config, Route, Service
from kong_pdk.gateway.error_responses import error_exit, nginx_error
from kong_pdk.gateway.exchange import Exchange, Exit, RawHeaders, Request
from kong_pdk.gateway.forwarding import joined

GRPC = frozenset({"grpc", "grpcs"})
HTTP_PROTOCOLS = frozenset({"http", "https", *GRPC})
_NAMED_GROUP = re.compile(r"\(\?<(?![=!])")


def compile_regex(pattern: str) -> re.Pattern[str]:
    """Compile a regular expression in Kong's syntax, with ``(?<name>...)`` for named groups. Raises re.error."""
    return re.compile(_NAMED_GROUP.sub("(?P<", pattern))


@dataclass(frozen=True)
class Target:
    """The parts of a request that decide its route. ``host`` is in lower case and has no port."""

    method: str
    scheme: str
    host: str
    port: int
    path: str
    headers: RawHeaders


@dataclass(frozen=True)
class Match:
    """The route of a request. ``matched`` is the part of the path that the route's path matches."""

    route: Route
    service: Service | None
    matched: str
    unnamed: tuple[str, ...] = ()
    named: Mapping[str, str] | None = None


class _Hosts:
    """A route's ``hosts``: exact names and names with one ``*``, each with or without a port."""

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
    """A condition on a header: one of several values, or one regular expression (``~*``)."""

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
    """One path of a route with the route's other conditions, and its rank among all rules."""

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
        """False for no match, True for a plain path or none, or the match of a regex path."""
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
            if HTTP_PROTOCOLS.intersection(route.protocols):
                rules.extend(_Rule(route, path) for path in route.paths or (None,))
        self._rules = sorted(rules, key=lambda rule: rule.rank, reverse=True)

    def match(self, target: Target) -> Match | None:
        """The route of a request, or None. ``target.path`` must be normalised."""
        for rule in self._rules:
            result = rule.match(target)
            if result is not False:
                return self._matched(rule, result)
        return None

    def _matched(self, rule: _Rule, result: re.Match[str] | bool) -> Match:
        service_id = rule.route.service_id
        service = self._services.get(service_id) if service_id else None
        if isinstance(result, bool):
            return Match(rule.route, service, rule.prefix)
        named = {name: value for name, value in result.groupdict().items() if value is not None}
        unnamed = tuple(value or "" for value in result.groups())
        return Match(rule.route, service, result[0], unnamed, named)


def upstream_path(match: Match, path: bytes) -> bytes:
    """The escaped path for the upstream. ``path`` is the request's path, normalised."""
    base = (match.service.path if match.service else None) or "/"
    matched = len(match.matched.encode("utf-8", "surrogateescape"))
    route = match.route
    return paths.escape(paths.join(base.encode(), path, matched, route.strip_path, route.path_handling))


_SERVED_PROTOCOLS = frozenset({"http", "https"})
_NOT_FOUND = "404 Not Found will be returned for the current request"
_NO_ROUTE = "no Route matched with those values"


def route(exchange: Exchange, router: Router) -> None:
    """Set route, service, captures and the upstream's address in an exchange.

    Raises :class:`Exit` with Kong's response if no route matches, or the route requires HTTPS.
    """
    request = exchange.request
    path = paths.normalize(request.raw_path)
    target = Target(
        method=exchange.upstream.method,
        scheme=request.scheme,
        host=request.host,
        port=_requested_port(request),
        path=_decoded_path(exchange, path),
        headers=exchange.upstream.headers,
    )
    match = router.match(target)
    if match is None:
        raise error_exit(exchange, 404, _NO_ROUTE)
    _set_route(exchange, match)
    _refuse_grpc(exchange, match.route)
    _require_https(exchange, match.route)
    if match.service is None:
        raise error_exit(exchange, 503, "no Service found with those values")
    _require_http(exchange, match.service)
    _set_upstream(exchange, match, match.service, path)


def _decoded_path(exchange: Exchange, path: bytes) -> str:
    """The path as text. Like Kong's router, answer 404 if the path is not valid UTF-8."""
    try:
        return path.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            reason = f"incomplete utf-8 byte sequence from index {error.start}"
        else:
            reason = f"invalid utf-8 sequence of {error.end - error.start} bytes from index {error.start}"
        exchange.node.log.write("error", f"router returned an error: {reason}, {_NOT_FOUND}, {exchange.log_context()}")
        raise error_exit(exchange, 404, _NO_ROUTE) from None


def _requested_port(request: Request) -> int:
    """The port in the Host header, or else the listener's port."""
    host = joined(request.headers, b"host") or b""
    _, colon, port = host.rpartition(b":")
    return int(port) if colon and port.isdigit() and len(port) < 6 else request.port


def _set_route(exchange: Exchange, match: Match) -> None:
    exchange.route, exchange.service = match.route, match.service
    exchange.matched_path = match.matched
    exchange.unnamed_captures = list(match.unnamed)
    exchange.named_captures = dict(match.named or {})
    if match.route.strip_path and match.route.paths:
        exchange.stripped_prefix = match.matched


def _require_http(exchange: Exchange, service: Service) -> None:
    if service.protocol not in _SERVED_PROTOCOLS:
        exchange.node.log.write(
            "error",
            f"service {service.name or service.id}: protocol {service.protocol} is not supported by this gateway, "
            "which has http and https",
        )
        raise nginx_error(exchange, 502)


def _set_upstream(exchange: Exchange, match: Match, service: Service, path: bytes) -> None:
    upstream = exchange.upstream
    upgrade = joined(upstream.headers, b"upgrade") or b""
    exchange.upgrade = exchange.request.http_version == "1.1" and upgrade.strip().lower() == b"websocket"
    upstream.scheme = service.protocol
    upstream.host = service.host
    upstream.port = service.port
    upstream.path = upstream_path(match, path)
    upstream.retries = service.retries
    upstream.connect_timeout = service.connect_timeout / 1000
    upstream.write_timeout = service.write_timeout / 1000
    upstream.read_timeout = service.read_timeout / 1000
    upstream.tls_verify = service.tls_verify
    upstream.tls_verify_depth = service.tls_verify_depth


def _refuse_grpc(exchange: Exchange, matched: Route) -> None:
    """Refuse, like Kong, a request over HTTP/1 to a route for gRPC; this gateway has only HTTP/1."""
    if not GRPC.intersection(matched.protocols):
        return
    kind = joined(exchange.upstream.headers, b"content-type") or b""
    if not kind.startswith(b"application/grpc"):
        raise error_exit(exchange, 415, "Non-gRPC request matched gRPC route")
    upgrade = [(b"Connection", b"Upgrade"), (b"Upgrade", b"HTTP/2")]
    raise error_exit(exchange, 426, "Please use HTTP2 protocol", upgrade)


def _require_https(exchange: Exchange, matched: Route) -> None:
    """Refuse or redirect plain HTTP if the route is only for HTTPS."""
    request = exchange.request
    scheme = request.scheme
    if exchange.node.settings.trusted(request.client_ip):
        forwarded = joined(request.headers, b"x-forwarded-proto")
        scheme = forwarded.decode("latin-1").lower() if forwarded else scheme
    if scheme != "http" or _SERVED_PROTOCOLS.intersection(matched.protocols) != {"https"}:
        return
    status = matched.https_redirect_status_code
    if status == 426:
        raise error_exit(
            exchange,
            426,
            "Please use HTTPS protocol",
            [(b"Connection", b"Upgrade"), (b"Upgrade", b"TLS/1.2, HTTP/1.1")],
        )
    query = b"?" + request.raw_query if request.raw_query else b""
    host = request.host.encode("utf-8", "surrogateescape")
    raise Exit(status, None, [(b"Location", b"https://" + host + request.raw_path + query)])
