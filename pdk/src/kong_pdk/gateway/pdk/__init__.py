"""The PDK as in Kong's Lua code: functions by dotted name that read and change an exchange."""

from kong_pdk.gateway.pdk import (
    kong_client,
    kong_log,
    kong_nginx,
    kong_node,
    kong_request,
    kong_response,
    kong_service,
    kong_vault,
)
from kong_pdk.gateway.pdk.dispatch import Event, UnknownFunction, call

__all__ = [
    "Event",
    "UnknownFunction",
    "call",
    "kong_client",
    "kong_log",
    "kong_nginx",
    "kong_node",
    "kong_request",
    "kong_response",
    "kong_service",
    "kong_vault",
]
