"""The configuration of a plugin that applies to a request: Kong's precedence."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kong_pdk.gateway.entities import PluginConfig
from kong_pdk.gateway.exchange import Exchange
from kong_pdk.gateway.phases import Registry

from .conftest import PythonPlugin


def exchange(route: str | None = "r", service: str | None = "s", consumer: str | None = "c") -> Exchange:
    def entity(identity: str | None) -> Any:
        return None if identity is None else SimpleNamespace(id=identity)

    found = SimpleNamespace(route=entity(route), service=entity(service), consumer=entity(consumer))
    return cast(Exchange, found)


async def nothing(exchange: Exchange) -> None:
    return None


def plugin(name: str, *phases: str, priority: int = 0) -> PythonPlugin:
    return PythonPlugin(name, dict.fromkeys(phases, nothing), priority)


SCOPES = {
    "route service consumer": {"route_id": "r", "service_id": "s", "consumer_id": "c"},
    "route consumer": {"route_id": "r", "consumer_id": "c"},
    "service consumer": {"service_id": "s", "consumer_id": "c"},
    "route service": {"route_id": "r", "service_id": "s"},
    "consumer": {"consumer_id": "c"},
    "route": {"route_id": "r"},
    "service": {"service_id": "s"},
    "global": {},
}


@pytest.mark.parametrize(("winner", "loser"), list(itertools.combinations(SCOPES, 2)))
def test_the_more_specific_configuration_wins(winner: str, loser: str) -> None:
    configured = [PluginConfig(scope, "p", {}, **SCOPES[scope]) for scope in (loser, winner)]
    registry = Registry(configured, {"p": plugin("p", "access")})
    assert [applied.plugin.id for applied in registry.applied(exchange(), "access")] == [winner]


@pytest.mark.parametrize("scope", [scope for scope in SCOPES if scope != "global"])
def test_a_configuration_for_another_entity_does_not_apply(scope: str) -> None:
    registry = Registry([PluginConfig("1", "p", {}, **SCOPES[scope])], {"p": plugin("p", "access")})
    assert not registry.has(exchange("other", "other", "other"), "access")
    assert not registry.has(exchange(None, None, None), "access")


def test_before_a_route_is_known_only_global_plugins_run() -> None:
    configured = [PluginConfig("1", "p", {}, route_id="r"), PluginConfig("2", "q", {})]
    registry = Registry(configured, {"p": plugin("p", "rewrite"), "q": plugin("q", "rewrite")})
    assert [applied.plugin.id for applied in registry.applied(exchange(), "rewrite")] == ["2"]


def test_a_plugin_sees_the_consumer_that_an_earlier_one_has_set() -> None:
    configured = [PluginConfig("auth", "auth", {}), PluginConfig("limit", "limit", {}, consumer_id="c")]
    handlers = {"auth": plugin("auth", "access", priority=9), "limit": plugin("limit", "access")}
    request = exchange(consumer=None)
    order: list[str] = []
    for applied in Registry(configured, handlers).applied(request, "access"):
        order.append(applied.plugin.id)
        request.consumer = cast(Any, SimpleNamespace(id="c"))
    assert order == ["auth", "limit"]


@pytest.mark.parametrize("fields", [{"enabled": False}, {"protocols": ("tcp",)}])
def test_plugins_that_are_off_or_for_streams_do_not_run(fields: dict[str, Any]) -> None:
    registry = Registry([PluginConfig("1", "p", {}, **fields)], {"p": plugin("p", "log")})
    assert not registry.has(exchange(), "log")
