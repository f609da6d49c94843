"""``kong.ctx.shared`` and nginx's ctx: values that plugins keep for the time of a request."""

from __future__ import annotations

from kong_pdk.gateway.exchange import Refused
from kong_pdk.gateway.pdk.calls import Event, function
from kong_pdk.gateway.pdk.lua import tostring


def _get(store: dict[str, object], key: object) -> object:
    return None if key is None else store.get(tostring(key))


def _set(store: dict[str, object], key: object, value: object) -> None:
    if key is None:
        raise Refused("table index is nil")
    if value is None:
        store.pop(tostring(key), None)
    else:
        store[tostring(key)] = value


@function("kong.ctx.shared.get")
def shared_get(event: Event, key: object = None) -> object:
    return _get(event.exchange.shared, key)


@function("kong.ctx.shared.set")
def shared_set(event: Event, key: object = None, value: object = None) -> None:
    _set(event.exchange.shared, key, value)


@function("kong.nginx.get_ctx")
def get_ctx(event: Event, key: object = None) -> object:
    return _get(event.exchange.nginx_ctx, key)


@function("kong.nginx.set_ctx")
def set_ctx(event: Event, key: object = None, value: object = None) -> None:
    _set(event.exchange.nginx_ctx, key, value)
