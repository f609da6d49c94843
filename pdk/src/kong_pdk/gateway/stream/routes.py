"""Finds the route of a TCP connection by its source and its destination, like Kong."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kong_pdk.gateway.entities import Config, Route, Service
from kong_pdk.gateway.exchange import Endpoints

STREAM_PROTOCOLS = frozenset({"tcp", "tls", "tls_passthrough", "udp"})


@dataclass(frozen=True)
class Match:
    """The route of a connection and the route's service, if it has one."""

    route: Route
    service: Service | None


class _Place:
    """An entry of ``sources`` or ``destinations``: an address or a network, a port, or both."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        ip, self._port = entry.get("ip"), entry.get("port")
        self._network = None if ip is None else ipaddress.ip_network(ip, strict=False)
        # An address is more specific than a port, and a port more than a network.
        self.rank = (ip is not None and "/" not in ip, self._port is not None, ip is not None)

    def matches(self, ip: str, port: int) -> bool:
        if self._port is not None and self._port != port:
            return False
        return self._network is None or _address(ip) in self._network


def _address(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(ip.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


class _Rule:
    """The conditions of one route, and its rank among all routes."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self._sources = [_Place(entry) for entry in route.sources or ()]
        self._destinations = [_Place(entry) for entry in route.destinations or ()]
        self.rank = (
            bool(self._sources) and bool(self._destinations),
            max((place.rank for place in self._sources), default=()),
            max((place.rank for place in self._destinations), default=()),
        )

    def matches(self, endpoints: Endpoints) -> bool:
        return _matches_any(self._sources, endpoints.source_ip, endpoints.source_port) and _matches_any(
            self._destinations, endpoints.destination_ip, endpoints.destination_port
        )


def _matches_any(places: list[_Place], ip: str, port: int) -> bool:
    return not places or any(place.matches(ip, port) for place in places)


class StreamRouter:
    """The TCP routes of a configuration, most specific first, and in the order of their declaration if equal.

    As in Kong, server names (``snis``) do not matter for plain TCP.
    """

    def __init__(self, config: Config) -> None:
        self._services = config.services
        routes = (route for route in config.routes.values() if "tcp" in route.protocols and self._is_enabled(route))
        rules = [_Rule(route) for route in sorted(routes, key=lambda route: route.order)]
        self._rules = sorted(rules, key=lambda rule: rule.rank, reverse=True)

    def match(self, endpoints: Endpoints) -> Match | None:
        """The route of a connection, or None."""
        for rule in self._rules:
            if rule.matches(endpoints):
                service_id = rule.route.service_id
                return Match(rule.route, self._services.get(service_id) if service_id else None)
        return None

    def _is_enabled(self, route: Route) -> bool:
        service = self._services.get(route.service_id) if route.service_id else None
        return service is None or service.enabled


def unserved_protocols(protocols: object) -> Iterator[str]:
    """A message for each protocol of a route that this gateway's stream subsystem does not have."""
    for protocol in ("tls", "tls_passthrough", "udp"):
        if isinstance(protocols, list) and protocol in protocols:
            yield f"routes for {protocol} are not served: the embedded gateway's streams are plain TCP"


def place_faults(values: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The faults of a route's sources and destinations: the path of each, and Kong's message."""
    for name in ("sources", "destinations"):
        places = values.get(name)
        for index, place in enumerate(places if isinstance(places, list) else ()):
            if isinstance(place, dict):
                yield from _place_faults(place, (name, index))


def _place_faults(place: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    ip = place.get("ip")
    if ip is None and place.get("port") is None:
        yield path, "at least one of these fields must be non-empty: 'ip', 'port'"
    if isinstance(ip, str):
        try:
            ipaddress.ip_network(ip, strict=False)
        except ValueError:
            yield (*path, "ip"), f"invalid ip or cidr range: '{ip}'"
