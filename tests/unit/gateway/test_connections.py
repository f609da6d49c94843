"""Connections to upstreams: kept, used again, and closed when they are idle."""

from __future__ import annotations

import pytest
from kong_pdk.gateway.exchange import Exchange
from waiting import wait_for

from .conftest import PythonPlugin, Running, Upstream


def test_connections_to_unused_peers_are_closed(
    simple: Running, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin may send each request to another name of the upstream."""
    monkeypatch.setattr("kong_pdk.gateway.upstream._SWEEP_SECONDS", 0.0)
    monkeypatch.setattr("kong_pdk.gateway.upstream._IDLE_SECONDS", 0.0)

    async def access(exchange: Exchange) -> None:
        exchange.upstream.host = exchange.request.raw_query.decode()
        exchange.upstream.port = upstream.port

    simple.use(PythonPlugin("p", {"access": access}))
    for name in ("127.0.0.1", "localhost", "127.1"):
        assert simple.request("GET", f"/?{name}").status == 200
    wait_for(lambda: simple.idle_connections <= 1)


def test_a_connection_is_used_again(simple: Running, upstream: Upstream) -> None:
    for _ in range(3):
        simple.request("POST", "/", body=b"x")
        wait_for(lambda: simple.idle_connections == 1)
    assert upstream.connections == 1


def test_the_number_of_kept_connections_is_limited(
    simple: Running, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kong_pdk.gateway.upstream._IDLE_CONNECTIONS", 0)
    for _ in range(3):
        assert simple.request("GET", "/").status == 200
    assert (upstream.connections, simple.idle_connections) == (3, 0)
