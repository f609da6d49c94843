"""The headers that Kong adds to or removes from requests to the upstream, and removes from its responses."""

from __future__ import annotations

import ipaddress

from kong_pdk.gateway import KONG_VERSION
from kong_pdk.gateway.exchange import Exchange, RawHeaders, Request
from kong_pdk.gateway.gateway_settings import Settings

# Headers that are not for the next hop (RFC 9110, 7.6.1), or that the gateway sets itself.
_SET_BY_GATEWAY = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-path",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-real-ip",
    }
)
# The headers that Kong sends for an upgrade to WebSocket.
_UPGRADE_HEADERS = ((b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"websocket"))
_HOP_BY_HOP_IN_RESPONSE = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)


def joined(headers: RawHeaders, name: bytes) -> bytes | None:
    """The values of a header, joined by commas; None if there is none. ``name`` must be in lower case."""
    values = [value for key, value in headers if key.lower() == name]
    return b", ".join(values) if values else None


def real_ip(request: Request, settings: Settings) -> str:
    """The client's address: that of the peer, or the one that a trusted peer sends in ``real_ip_header``."""
    if not settings.trusted(request.client_ip):
        return request.client_ip
    value = joined(request.headers, settings.real_ip_header.lower().encode("latin-1", "replace"))
    address = request.client_ip
    for text in reversed((value or b"").decode("latin-1").split(",")):
        try:
            address = str(ipaddress.ip_address(text.strip()))
        except ValueError:
            return address
        if not settings.real_ip_recursive or not settings.trusted(address):
            return address
    return address


def connection_tokens(headers: RawHeaders) -> set[bytes]:
    """The names of headers that ``Connection`` marks as for this hop only, in lower case."""
    value = joined(headers, b"connection")
    return {token.strip().lower() for token in value.split(b",")} if value else set()


def upstream_headers(exchange: Exchange, host: bytes, size: int | None) -> RawHeaders:
    """The headers of the request to the upstream, in Kong's order.

    :param host: the value of Host.
    :param size: the length of the body in bytes; None if there is no body.
    """
    request, settings = exchange.request, exchange.node.settings
    headers = exchange.upstream.headers
    via = f"{request.http_version} kong/{KONG_VERSION}".encode()
    earlier = joined(headers, b"via")
    result: RawHeaders = [
        (b"Via", via if earlier is None else earlier + b", " + via),
        (b"Host", host),
        *(_UPGRADE_HEADERS if exchange.upgrade else [(b"Connection", b"keep-alive")]),
        *_forwarded(exchange),
        (b"X-Real-IP", real_ip(request, settings).encode()),
    ]
    dropped = _SET_BY_GATEWAY | connection_tokens(headers)
    if "x-kong-request-id" in settings.headers_upstream:
        dropped |= {b"x-kong-request-id"}
        result.append((b"X-Kong-Request-ID", exchange.request_id.encode()))
    if size is not None:
        result.append((b"Content-Length", b"%d" % size))
    result.extend(pair for pair in headers if pair[0].lower() not in dropped)
    return result


def _forwarded(exchange: Exchange) -> RawHeaders:
    request = exchange.request
    trusted_headers = request.headers if exchange.node.settings.trusted(request.client_ip) else []
    earlier = joined(exchange.upstream.headers, b"x-forwarded-for")
    peer = request.client_ip.encode()
    path = request.raw_path
    prefix = exchange.stripped_prefix
    values = {
        b"X-Forwarded-Proto": request.scheme.encode(),
        b"X-Forwarded-Host": request.host.encode("utf-8", "surrogateescape"),
        b"X-Forwarded-Port": b"%d" % request.port,
        b"X-Forwarded-Path": path,
        b"X-Forwarded-Prefix": None if prefix is None else prefix.encode("utf-8", "surrogateescape"),
    }
    result: RawHeaders = [(b"X-Forwarded-For", peer if earlier is None else earlier + b", " + peer)]
    for name, value in values.items():
        sent = joined(trusted_headers, name.lower()) or value
        if sent is not None:
            result.append((name, sent))
    return result


def response_headers(headers: RawHeaders) -> RawHeaders:
    """The upstream's headers that are passed to the client."""
    dropped = _HOP_BY_HOP_IN_RESPONSE | connection_tokens(headers)
    return [pair for pair in headers if pair[0].lower() not in dropped]
