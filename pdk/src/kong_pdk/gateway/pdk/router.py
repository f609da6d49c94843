"""``kong.router``: the route and the service of the request."""

from __future__ import annotations

from kong_pdk.gateway.pdk.calls import Event, function


@function("kong.router.get_route")
def get_route(event: Event) -> dict[str, object] | None:
    route = event.exchange.route
    return None if route is None else route.to_dict()


@function("kong.router.get_service")
def get_service(event: Event) -> dict[str, object] | None:
    service = event.exchange.service
    return None if service is None else service.to_dict()
