"""``kong.service``: where a request is sent, and with what patience."""

from __future__ import annotations

from kong_pdk.gateway.exchange import Refused
from kong_pdk.gateway.pdk.calls import Event, function
from kong_pdk.gateway.pdk.checks import integer, lua_type, string

_LONGEST = 2**31 - 2  # milliseconds


@function("kong.service.set_upstream")
def set_upstream(event: Event, host: object = None) -> bool | None:
    """Send the request to an upstream, as for a service whose host is its name; None when there is none of it.

    The Host header is that of the target, or the upstream's own.
    """
    name = string("host", host)
    exchange = event.exchange
    if name not in exchange.node.config.upstreams_by_name:
        return None
    exchange.upstream.upstream_name = name
    return True


@function("kong.service.set_target")
def set_target(event: Event, host: object = None, port: object = None) -> None:
    upstream = event.exchange.upstream
    name = string("host", host)
    upstream.port = integer("port", port, 0, 65535)
    upstream.host = name
    upstream.host_header = name
    upstream.upstream_name = None


@function("kong.service.set_retries")
def set_retries(event: Event, retries: object = None) -> None:
    event.exchange.upstream.retries = integer("retries", retries, 0, 32767)


@function("kong.service.set_timeouts")
def set_timeouts(event: Event, connect: object = None, write: object = None, read: object = None) -> None:
    """Set the three time-outs, in milliseconds."""
    upstream = event.exchange.upstream
    given = (("connect_timeout", connect), ("write_timeout", write), ("read_timeout", read))
    seconds = [integer(name, value, 1, _LONGEST) / 1000 for name, value in given]
    upstream.connect_timeout, upstream.write_timeout, upstream.read_timeout = seconds


@function("kong.service.set_tls_verify")
def set_tls_verify(event: Event, on: object = None) -> bool:
    if not isinstance(on, bool):
        raise Refused(f"argument must be a boolean, got {lua_type(on)}")
    event.exchange.upstream.tls_verify = on
    return True


@function("kong.service.set_tls_verify_depth")
def set_tls_verify_depth(event: Event, depth: object = None) -> bool:
    event.exchange.upstream.tls_verify_depth = integer("depth", depth, 0, 100)
    return True
