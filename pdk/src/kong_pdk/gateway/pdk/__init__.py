"""The PDK as Kong's Lua side has it: functions by dotted name that read and change an exchange."""

from kong_pdk.gateway.pdk.calls import Event, UnknownFunction, call

from . import (
    client,
    client_tls,
    log,
    nginx,
    node,
    request,
    request_body,
    response,
    router,
    service,
    service_request,
    service_response,
    shared,
    unreachable,
    vault,
)

__all__ = [
    "Event",
    "UnknownFunction",
    "call",
    "client",
    "client_tls",
    "log",
    "nginx",
    "node",
    "request",
    "request_body",
    "response",
    "router",
    "service",
    "service_request",
    "service_response",
    "shared",
    "unreachable",
    "vault",
]
