"""The route of a TCP connection, and Kong's messages about invalid routes."""

from __future__ import annotations

from pathlib import Path

import pytest
from kong_pdk.gateway.exchange import Endpoints
from kong_pdk.gateway.stream.routes import StreamRouter

from .test_declarative import faults, load

CLIENT = Endpoints("10.1.2.3", 40000, "192.168.0.1", 9100)


def chosen(folder: Path, *routes: str, ends: Endpoints = CLIENT, service: str = "") -> str | None:
    """Give the name of the route of a connection; each route is written without its braces."""
    listed = ", ".join(f"{{protocols: [tcp], {route}}}" for route in routes)
    text = f'{{_format_version: "3.0", services: [{{name: s, url: "tcp://up:1", {service} routes: [{listed}]}}]}}'
    match = StreamRouter(load(folder, text)).match(ends)
    return match.route.name if match else None


@pytest.mark.parametrize(
    ("route", "matches"),
    [
        ("destinations: [{port: 9100}]", True),
        ("destinations: [{port: 9101}]", False),
        ("destinations: [{port: 9101}, {ip: 192.168.0.1}]", True),
        ("destinations: [{ip: 192.168.0.1, port: 9101}]", False),
        ("destinations: [{ip: 192.168.0.0/16, port: 9100}]", True),
        ("sources: [{ip: 10.0.0.0/8}]", True),
        ("sources: [{ip: 10.1.2.4}]", False),
        ("sources: [{port: 40000}]", True),
        ("sources: [{ip: 10.1.2.3}], destinations: [{port: 1}]", False),
        ('sources: [{ip: "::1"}]', False),
        ("protocols: [tcp, tls], snis: [a.test]", True),
    ],
)
def test_conditions(tmp_path: Path, route: str, matches: bool) -> None:
    assert chosen(tmp_path, f"name: r, {route}") == ("r" if matches else None)


def test_ipv6_addresses(tmp_path: Path) -> None:
    ends = Endpoints("fe80::1%eth0", 1, "::1", 9100)
    assert chosen(tmp_path, 'name: r, sources: [{ip: "fe80::/10"}], destinations: [{ip: "::1"}]', ends=ends) == "r"


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ("destinations: [{ip: 192.168.0.0/16}]", "destinations: [{port: 9100}]"),
        ("destinations: [{port: 9100}]", "destinations: [{ip: 192.168.0.1}]"),
        ("destinations: [{ip: 192.168.0.1, port: 9100}]", "sources: [{port: 40000}]"),
        ("sources: [{ip: 10.1.2.3, port: 40000}]", "sources: [{ip: 10.0.0.0/8}], destinations: [{port: 9100}]"),
    ],
)
def test_the_more_specific_route_wins(tmp_path: Path, less: str, more: str) -> None:
    assert chosen(tmp_path, f"name: less, {less}", f"name: more, {more}") == "more"
    assert chosen(tmp_path, f"name: more, {more}", f"name: less, {less}") == "more"


def test_of_two_equal_routes_the_first_wins(tmp_path: Path) -> None:
    routes = [f"name: {name}, destinations: [{{port: 9100}}]" for name in ("b", "a")]
    assert chosen(tmp_path, *routes) == "b"


def test_the_routes_of_a_disabled_service_are_ignored(tmp_path: Path) -> None:
    assert chosen(tmp_path, "name: r, destinations: [{port: 9100}]", service="enabled: false,") is None


def test_routes_for_http_take_no_streams(tmp_path: Path) -> None:
    assert chosen(tmp_path, "name: r, protocols: [http], paths: [/]") is None


def test_entities_have_the_written_fields(tmp_path: Path) -> None:
    text = """
_format_version: "3.0"
routes: [{name: r, protocols: [tcp], sources: [{ip: 10.0.0.0/8}], destinations: [{port: 9100}]}]
"""
    route = next(iter(load(tmp_path, text).routes.values())).to_dict()
    assert (route["sources"], route["destinations"]) == ([{"ip": "10.0.0.0/8"}], [{"port": 9100}])


@pytest.mark.parametrize(
    ("route", "message"),
    [
        (
            "protocols: [tcp]",
            "in routes 1: must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp', 'tls' or 'udp'",
        ),
        (
            "protocols: [tcp], sources: [{port: 1}], paths: [/]",
            "in routes 1: in paths: cannot set 'paths' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'",
        ),
        (
            "protocols: [tcp], sources: [{}]",
            "in routes 1: in sources 1: at least one of these fields must be non-empty: 'ip', 'port'",
        ),
        (
            "protocols: [tcp], destinations: [{port: 1}, {ip: 10.0.0.256}]",
            "in routes 1: in destinations 2: in ip: invalid ip or cidr range: '10.0.0.256'",
        ),
    ],
)
def test_invalid_routes(tmp_path: Path, route: str, message: str) -> None:
    assert faults(tmp_path, f'{{_format_version: "3.0", routes: [{{{route}}}]}}') == [f"1: {message}"]


def test_protocols_that_this_gateway_lacks_are_named(tmp_path: Path) -> None:
    config = load(tmp_path, '{_format_version: "3.0", routes: [{protocols: [tcp, tls, udp], sources: [{port: 1}]}]}')
    assert tuple(notice.message for notice in config.notices) == (
        "routes for tls are not served: the embedded gateway's streams are plain TCP",
        "routes for udp are not served: the embedded gateway's streams are plain TCP",
    )
