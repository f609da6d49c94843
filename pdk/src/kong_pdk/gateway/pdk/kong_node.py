"""``kong.node``, ``kong.cluster``, ``kong.ip``, ``kong.plugin``, ``kong.router`` and ``kong.telemetry``."""

from __future__ import annotations

import os
import resource

from kong_pdk.gateway.exchange import Refused
from kong_pdk.gateway.pdk.checks import integer, string, table
from kong_pdk.gateway.pdk.dispatch import Event, function

_UNITS = {"b": 0, "k": 1, "m": 2, "g": 3}


@function("kong.node.get_id")
def get_id(event: Event) -> str:
    return event.exchange.node.id


@function("kong.node.get_hostname")
def get_hostname(event: Event) -> str:
    return event.exchange.node.hostname


@function("kong.node.get_memory_stats")
def get_memory_stats(event: Event, unit: object = None, scale: object = None) -> dict[str, object]:
    """The memory of this process in place of Lua VMs. There are no shared dicts."""
    name = string("unit", "b" if unit is None else unit).lower()
    if name not in _UNITS:
        raise Refused(f"invalid unit '{unit}' (expected 'k/K', 'm/M', or 'g/G')")
    digits = integer("scale", 2 if scale is None else scale, 0, 15)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    shown: object = used
    if name != "b":
        shown = f"{used / 1024 ** _UNITS[name]:.{digits}f} {name.upper()}iB"
    return {
        "lua_shared_dicts": {},
        "workers_lua_vms": [{"http_allocated_gc": shown, "pid": os.getpid()}],
    }


@function("kong.cluster.get_id")
def get_cluster_id(event: Event) -> str | None:
    """A node without a database is in no cluster."""
    return None


@function("kong.ip.is_trusted")
def is_trusted(event: Event, address: object = None) -> bool:
    return event.exchange.node.settings.trusted(string("ip", address))


@function("kong.plugin.get_id")
def get_plugin_id(event: Event) -> str:
    return event.plugin.id


@function("kong.telemetry.log")
def telemetry_log(
    event: Event,
    plugin_name: object = None,
    plugin_config: object = None,
    message_type: object = None,
    *rest: object,
) -> None:
    """Check the arguments. This gateway has no OpenTelemetry."""
    string("plugin_name", plugin_name)
    table("plugin_config", [] if plugin_config is None else plugin_config)
    string("message_type", message_type)
    message, attributes, *_ = [*rest, None, None]
    if attributes is not None:
        table("attributes", attributes)
    event.log("debug", f"telemetry {plugin_name} {message_type}: {message}")


@function("kong.router.get_route")
def get_route(event: Event) -> dict[str, object] | None:
    route = event.exchange.route
    return None if route is None else route.to_dict()


@function("kong.router.get_service")
def get_service(event: Event) -> dict[str, object] | None:
    service = event.exchange.service
    return None if service is None else service.to_dict()
