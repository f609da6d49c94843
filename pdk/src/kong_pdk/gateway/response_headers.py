"""The headers of the response to the client, as Kong puts them together."""

from __future__ import annotations

import re
import time
from email.utils import formatdate

from kong_pdk.gateway.exchange import VERSION, Exchange, Exit, RawHeaders, ServiceResponse
from kong_pdk.gateway.gateway_settings import TOKENS

_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NO_BODY = frozenset({204, 304})


def sendable(headers: RawHeaders) -> RawHeaders:
    """Drop what is no header name and no length, and escape what would end a header: plugins set whatever they like."""
    kept = [
        (name, _CONTROL.sub(lambda found: b"%%%02X" % found[0][0], value).strip())
        for name, value in headers
        if _NAME.fullmatch(name)
    ]
    lengths = {value for name, value in kept if name.lower() == b"content-length"}
    if all(value.isdigit() for value in lengths) and len(lengths) < 2:
        return kept
    return [pair for pair in kept if pair[0].lower() != b"content-length"]


def over(base: RawHeaders, new: RawHeaders) -> RawHeaders:
    """``base`` with the headers of ``new`` in the place of its own of the same names."""
    names = {name.lower() for name, _ in new}
    return [pair for pair in base if pair[0].lower() not in names] + new


def merge(set_by_plugins: RawHeaders, from_upstream: RawHeaders) -> RawHeaders:
    """Of a name that both have, nginx takes the upstream's; its Content-Type leads as nginx writes it."""
    names = {name.lower() for name, _ in from_upstream}
    leading = [pair for pair in from_upstream if pair[0].lower() in {b"content-type", b"content-length"}]
    rest = [pair for pair in from_upstream if pair[0].lower() not in {b"content-type", b"content-length"}]
    return leading + [pair for pair in set_by_plugins if pair[0].lower() not in names] + rest


def may_have_body(status: int) -> bool:
    """Whether HTTP lets a response of this status have a body."""
    return status not in _NO_BODY


def with_length(headers: RawHeaders, status: int, body: bytes) -> RawHeaders:
    """The headers with the length of a body that is there as a whole."""
    kept = [pair for pair in headers if pair[0].lower() not in {b"content-length", b"transfer-encoding"}]
    if not may_have_body(status):
        return kept
    return [*kept, (b"Content-Length", b"%d" % len(body))]


def exit_headers(exchange: Exchange, answer: Exit, content_type: str | None, body: bytes) -> RawHeaders:
    """The headers of an answer that Kong gives itself, over what plugins and the upstream have set."""
    new = list(answer.headers)
    if content_type is not None and not any(name.lower() == b"content-type" for name, _ in new):
        new.append((b"Content-Type", content_type.encode()))
    headers = over(exchange.response.headers, new)
    told = [value for name, value in answer.headers if name.lower() == b"content-length"]
    headers = with_length(headers, answer.status, body)
    if told:
        # Only of an answer without a body: to HEAD, the length that a GET would have.
        headers = over(headers, [(b"Content-Length", told[-1])])
    elif not may_have_body(answer.status) and (answer.body is not None or answer.status == 304):
        # Kong has set the length of the body that it was given, an empty one too; nginx leaves out the body alone.
        headers.append((b"Content-Length", b"%d" % len(answer.body or b"")))
    if answer.status == 204:
        headers = [pair for pair in headers if pair[0].lower() != b"content-type"]
    return headers


def switching(headers: RawHeaders, from_upstream: RawHeaders) -> RawHeaders:
    """The headers of an answer that ends HTTP on a connection, in favour of the protocol that the upstream names."""
    kept = [pair for pair in headers if pair[0].lower() not in {b"content-length", b"date"}]
    upgrade = [pair for pair in from_upstream if pair[0].lower() == b"upgrade"]
    return [*kept, (b"Connection", b"upgrade"), *upgrade]


def final(exchange: Exchange) -> RawHeaders:
    """All headers of the response: those of ``exchange.response`` and Kong's own."""
    headers = sendable(exchange.response.headers)
    names = {name.lower() for name, _ in headers}
    shown = exchange.node.settings.headers
    if b"date" not in names:
        headers.insert(0, (b"Date", formatdate(usegmt=True).encode()))
    service = exchange.service_response
    own = _local(exchange, names) if service is None else _proxied(exchange, service)
    headers = over(headers, [pair for pair in own if _shown(pair[0], shown)])
    if "x-kong-request-id" in shown:
        headers = over(headers, [(b"X-Kong-Request-Id", exchange.request_id.encode())])
    return headers


def _shown(name: bytes, shown: tuple[str, ...]) -> bool:
    """Whether the setting ``headers`` names a header of Kong's, by itself or by the token for its kind."""
    lowered = name.decode("ascii").lower()
    return lowered in shown or any(token in shown for token, names in TOKENS.items() if lowered in names)


def _proxied(exchange: Exchange, service: ServiceResponse) -> RawHeaders:
    version = f"1.1 kong/{VERSION}".encode()
    earlier = [value for name, value in exchange.response.headers if name.lower() == b"via"]
    return [
        (b"X-Kong-Upstream-Status", b"%d" % service.status),
        (b"X-Kong-Upstream-Latency", b"%d" % (exchange.upstream_latency or 0)),
        (b"X-Kong-Proxy-Latency", b"%d" % (exchange.proxy_latency or 0)),
        (b"Via", b", ".join([*earlier, version])),
    ]


def _local(exchange: Exchange, names: set[bytes]) -> RawHeaders:
    took = max(0, int((time.time() - exchange.start_time) * 1000))
    own: RawHeaders = [(b"X-Kong-Response-Latency", b"%d" % took)]
    if b"server" not in names:
        own.append((b"Server", f"kong/{VERSION}".encode()))
    return own
