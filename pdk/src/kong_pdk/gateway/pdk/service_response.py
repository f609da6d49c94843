"""``kong.service.response``: the service's answer, as it came."""

from __future__ import annotations

from typing import Any

from kong_pdk.gateway.pdk import headers
from kong_pdk.gateway.pdk.calls import Event, function
from kong_pdk.gateway.pdk.checks import maximum, string
from kong_pdk.gateway.pdk.request_body import parse


@function("kong.service.response.get_status")
def get_status(event: Event) -> int | None:
    answer = event.exchange.service_response
    return None if answer is None else answer.status


@function("kong.service.response.get_header")
def get_header(event: Event, name: object = None) -> str | None:
    wanted = string("header name", name)
    answer = event.exchange.service_response
    return None if answer is None else headers.get(answer.headers, wanted)


@function("kong.service.response.get_headers")
def get_headers(event: Event, max_headers: object = None) -> dict[str, str | list[str]]:
    """Headers that Kong has buffered are behind a metatable: the encoders see an empty table."""
    most = maximum("max_headers", max_headers)
    answer = event.exchange.service_response
    if answer is None or answer.body is not None:
        return {}
    return headers.get_all(answer.headers, most)


@function("kong.service.response.get_raw_body")
def get_raw_body(event: Event) -> bytes | None:
    """The body of a buffered response; empty when none was buffered."""
    answer = event.exchange.service_response
    return b"" if answer is None or answer.body is None else answer.body


@function("kong.service.response.get_body")
def get_body(event: Event, mimetype: object = None, max_args: object = None) -> Any:
    most = maximum("max_args", max_args)
    answer = event.exchange.service_response
    if answer is None or answer.body is None:
        return None
    kind = headers.get(answer.headers, "content-type") if mimetype is None else string("mimetype", mimetype)
    return None if kind is None else parse(kind, answer.body, most)
