"""Finds the route of an exchange and sets what the upstream is to be asked."""

from __future__ import annotations

from kong_pdk.gateway import paths
from kong_pdk.gateway.entities import Route, Service
from kong_pdk.gateway.errors import error_exit, nginx_error
from kong_pdk.gateway.exchange import Exchange, Exit, Request
from kong_pdk.gateway.forwarding import joined
from kong_pdk.gateway.router import GRPC, Match, Router, Target, upstream_path

_HTTP = frozenset({"http", "https"})
_NOT_FOUND = "404 Not Found will be returned for the current request"
_NO_ROUTE = "no Route matched with those values"


def route(exchange: Exchange, router: Router) -> None:
    """Fill in route, service, captures and the upstream's address.

    Raises :class:`Exit` with Kong's answer where no route fits, or the route asks for HTTPS.
    """
    request = exchange.request
    path = paths.normalize(request.raw_path)
    target = Target(
        method=exchange.upstream.method,
        scheme=request.scheme,
        host=request.host,
        port=_asked_port(request),
        path=_text(exchange, path),
        headers=exchange.upstream.headers,
    )
    match = router.match(target)
    if match is None:
        raise error_exit(exchange, 404, _NO_ROUTE)
    _note(exchange, match)
    _refuse_grpc(exchange, match.route)
    _require_https(exchange, match.route)
    if match.service is None:
        raise error_exit(exchange, 503, "no Service found with those values")
    _require_http(exchange, match.service)
    _address(exchange, match, match.service, path)


def _text(exchange: Exchange, path: bytes) -> str:
    """The path as the router takes it. Kong's router gives up on bytes that are no UTF-8: no route has them."""
    try:
        return path.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            reason = f"incomplete utf-8 byte sequence from index {error.start}"
        else:
            reason = f"invalid utf-8 sequence of {error.end - error.start} bytes from index {error.start}"
        exchange.node.log.write("error", f"router returned an error: {reason}, {_NOT_FOUND}, {exchange.described()}")
        raise error_exit(exchange, 404, _NO_ROUTE) from None


def _asked_port(request: Request) -> int:
    """The port that the Host header names, or else the listener's."""
    host = joined(request.headers, b"host") or b""
    _, colon, port = host.rpartition(b":")
    return int(port) if colon and port.isdigit() and len(port) < 6 else request.port


def _note(exchange: Exchange, match: Match) -> None:
    exchange.route, exchange.service = match.route, match.service
    exchange.matched_path = match.matched
    exchange.unnamed_captures = list(match.unnamed)
    exchange.named_captures = dict(match.named or {})
    if match.route.strip_path and match.route.paths:
        exchange.stripped_prefix = match.matched


def _require_http(exchange: Exchange, service: Service) -> None:
    if service.protocol not in _HTTP:
        exchange.node.log.write(
            "error",
            f"service {service.name or service.id}: protocol {service.protocol} is not one of this gateway's, "
            "which are http and https",
        )
        raise nginx_error(exchange, 502)


def _address(exchange: Exchange, match: Match, service: Service, path: bytes) -> None:
    upstream = exchange.upstream
    asked = joined(upstream.headers, b"upgrade") or b""
    exchange.upgrade = exchange.request.http_version == "1.1" and asked.strip().lower() == b"websocket"
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
    """Answer as Kong does what comes over HTTP/1, which is all that this gateway has, to a route for gRPC."""
    if not GRPC.intersection(matched.protocols):
        return
    kind = joined(exchange.upstream.headers, b"content-type") or b""
    if not kind.startswith(b"application/grpc"):
        raise error_exit(exchange, 415, "Non-gRPC request matched gRPC route")
    upgrade = [(b"Connection", b"Upgrade"), (b"Upgrade", b"HTTP/2")]
    raise error_exit(exchange, 426, "Please use HTTP2 protocol", upgrade)


def _require_https(exchange: Exchange, matched: Route) -> None:
    """Refuse, or redirect, plain HTTP on a route for HTTPS only."""
    request = exchange.request
    scheme = request.scheme
    if exchange.node.settings.trusted(request.client_ip):
        told = joined(request.headers, b"x-forwarded-proto")
        scheme = told.decode("latin-1").lower() if told else scheme
    if scheme != "http" or _HTTP.intersection(matched.protocols) != {"https"}:
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
