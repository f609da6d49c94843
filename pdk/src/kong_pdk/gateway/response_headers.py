"""Builds the headers of the response to the client like Kong."""

from __future__ import annotations

import re
import time
from email.utils import formatdate

from kong_pdk.gateway import KONG_VERSION
from kong_pdk.gateway.exchange import Exchange, Exit, RawHeaders, ServiceResponse
from kong_pdk.gateway.gateway_settings import TOKENS

_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NO_BODY = frozenset({204, 304})


def sendable(headers: RawHeaders) -> RawHeaders:
    """Remove invalid header names and lengths, and escape control characters, since plugins may set any value."""
    kept = [
        (name, _CONTROL.sub(lambda match: b"%%%02X" % match[0][0], value).strip())
        for name, value in headers
        if _NAME.fullmatch(name)
    ]
    lengths = {value for name, value in kept if name.lower() == b"content-length"}
    if all(value.isdigit() for value in lengths) and len(lengths) < 2:
        return kept
    return [pair for pair in kept if pair[0].lower() != b"content-length"]


def override(base: RawHeaders, new: RawHeaders) -> RawHeaders:
    """``base`` with the headers of ``new``, which replace headers of the same names."""
    names = {name.lower() for name, _ in new}
    return [pair for pair in base if pair[0].lower() not in names] + new


def merge(set_by_plugins: RawHeaders, from_upstream: RawHeaders) -> RawHeaders:
    """Merge headers like nginx: the upstream's replace those of the same names, and its Content-Type comes first."""
    names = {name.lower() for name, _ in from_upstream}
    leading = [pair for pair in from_upstream if pair[0].lower() in {b"content-type", b"content-length"}]
    rest = [pair for pair in from_upstream if pair[0].lower() not in {b"content-type", b"content-length"}]
    return leading + [pair for pair in set_by_plugins if pair[0].lower() not in names] + rest


def may_have_body(status: int) -> bool:
    """Whether a response of this status may have a body in HTTP."""
    return status not in _NO_BODY


def with_length(headers: RawHeaders, status: int, body: bytes) -> RawHeaders:
    """The headers with the length of a complete body."""
    kept = [pair for pair in headers if pair[0].lower() not in {b"content-length", b"transfer-encoding"}]
    if not may_have_body(status):
        return kept
    return [*kept, (b"Content-Length", b"%d" % len(body))]


def exit_headers(exchange: Exchange, answer: Exit, content_type: str | None, body: bytes) -> RawHeaders:
    """The headers of a response by Kong itself, which replace headers of plugins and of the upstream."""
    answer_headers = list(answer.headers)
    if content_type is not None and not any(name.lower() == b"content-type" for name, _ in answer_headers):
        answer_headers.append((b"Content-Type", content_type.encode()))
    headers = override(exchange.response.headers, answer_headers)
    lengths = [value for name, value in answer.headers if name.lower() == b"content-length"]
    headers = with_length(headers, answer.status, body)
    if lengths:
        # The length that a plugin sets counts only without a body: to HEAD, it is the length for GET.
        headers = override(headers, [(b"Content-Length", lengths[-1])])
    elif not may_have_body(answer.status) and (answer.body is not None or answer.status == 304):
        # Kong sets the length of the plugin's body, also of an empty one; nginx then removes the body, not the length.
        headers.append((b"Content-Length", b"%d" % len(answer.body or b"")))
    if answer.status == 204:
        headers = [pair for pair in headers if pair[0].lower() != b"content-type"]
    return headers


def upgrade_headers(headers: RawHeaders, from_upstream: RawHeaders) -> RawHeaders:
    """The headers of a 101 response, with the protocol that the upstream names."""
    kept = [pair for pair in headers if pair[0].lower() not in {b"content-length", b"date"}]
    protocol = [pair for pair in from_upstream if pair[0].lower() == b"upgrade"]
    return [*kept, (b"Connection", b"upgrade"), *protocol]


def final_headers(exchange: Exchange) -> RawHeaders:
    """All headers of the response: ``exchange.response.headers`` and the headers that Kong adds."""
    headers = sendable(exchange.response.headers)
    names = {name.lower() for name, _ in headers}
    enabled = exchange.node.settings.headers
    if b"date" not in names:
        headers.insert(0, (b"Date", formatdate(usegmt=True).encode()))
    service = exchange.service_response
    kong_headers = _own_headers(exchange, names) if service is None else _proxy_headers(exchange, service)
    headers = override(headers, [pair for pair in kong_headers if _is_enabled(pair[0], enabled)])
    if "x-kong-request-id" in enabled:
        headers = override(headers, [(b"X-Kong-Request-Id", exchange.request_id.encode())])
    return headers


def _is_enabled(name: bytes, enabled: tuple[str, ...]) -> bool:
    """Whether the setting ``headers`` enables a header of Kong, by its name or by the token for its kind."""
    lowered = name.decode("ascii").lower()
    return lowered in enabled or any(token in enabled for token, names in TOKENS.items() if lowered in names)


def _proxy_headers(exchange: Exchange, service: ServiceResponse) -> RawHeaders:
    version = f"1.1 kong/{KONG_VERSION}".encode()
    earlier = [value for name, value in exchange.response.headers if name.lower() == b"via"]
    return [
        (b"X-Kong-Upstream-Status", b"%d" % service.status),
        (b"X-Kong-Upstream-Latency", b"%d" % (exchange.upstream_latency or 0)),
        (b"X-Kong-Proxy-Latency", b"%d" % (exchange.proxy_latency or 0)),
        (b"Via", b", ".join([*earlier, version])),
    ]


def _own_headers(exchange: Exchange, names: set[bytes]) -> RawHeaders:
    took = max(0, int((time.time() - exchange.start_time) * 1000))
    result: RawHeaders = [(b"X-Kong-Response-Latency", b"%d" % took)]
    if b"server" not in names:
        result.append((b"Server", f"kong/{KONG_VERSION}".encode()))
    return result
