"""PDK functions without an HTTP request: in the stream subsystem and in the TLS handshake."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kong_pdk.gateway.entities import Route, Service
from kong_pdk.gateway.exchange import Endpoints, Exchange, Exit, Refused, bare_request
from kong_pdk.gateway.handshake import Handshake
from kong_pdk.gateway.pdk.dispatch import FUNCTIONS
from kong_pdk.gateway.stream.session import session_of
from kong_pdk.wire.pdk_functions import allowed, functions
from unit.gateway.pdk.exchanges import Scene, scene

ENDS = Endpoints("127.0.0.1", 4711, "127.0.0.1", 9100)
# Arguments for calls that are not refused.
ARGUMENTS: dict[str, list[Any]] = {
    "kong.ip.is_trusted": ["127.0.0.1"],
    "kong.log.info": ["m"],
    "kong.nginx.get_var": ["remote_addr"],
    "kong.ctx.shared.get": ["k"],
    "kong.ctx.shared.set": ["k", "v"],
    "kong.nginx.get_ctx": ["k"],
    "kong.service.set_target": ["127.0.0.1", 1],
    "kong.response.exit": [403],
}


def stream(phase: str = "preread") -> Scene:
    given = scene()
    session = session_of(given.exchange.node, ENDS)
    session.phase = phase
    return Scene(session, given.written)


def handshake() -> Scene:
    given = scene()
    exchange = Handshake(given.exchange.node, bare_request(ENDS, "https"), "", "certificate", server_name="a.test")
    return Scene(exchange, given.written)


def at(phase: str) -> Scene:
    return handshake() if phase == "certificate" else stream(phase)


CELLS = [
    (method, phase, allowed_here)
    for method in functions()
    for phase in ("certificate", "preread", "log")
    if (allowed_here := allowed(method, phase, at(phase).exchange.subsystem)) is not None
]


@pytest.mark.parametrize(("method", "phase", "allowed_here"), CELLS)
def test_measured_phases(method: str, phase: str, allowed_here: bool) -> None:
    """Kong makes or refuses each measured call."""
    given = at(phase)
    if not allowed_here:
        with pytest.raises(Refused, match=f"{method} cannot be called in {phase} phase"):
            given.call(method, *ARGUMENTS.get(method, []), phase=phase)
        return
    try:
        given.call(method, *ARGUMENTS.get(method, []), phase=phase)
    except Exit:
        assert method == "kong.response.exit"


@pytest.mark.parametrize("phase", ["certificate", "preread", "log"])
@pytest.mark.parametrize(
    "method", sorted(name for name in FUNCTIONS if name.startswith(("kong.request.", "kong.service.response.")))
)
def test_functions_of_a_request_are_refused_without_one(method: str, phase: str) -> None:
    with pytest.raises(Refused, match="cannot be called in"):
        at(phase).call(method, phase=phase)


@pytest.mark.parametrize(
    ("method", "phase", "refused"),
    [
        ("kong.client.authenticate", "preread", True),
        ("kong.client.authenticate", "log", True),
        ("kong.client.get_credential", "preread", True),
        ("kong.client.get_credential", "log", False),
        ("kong.service.set_retries", "preread", True),
        ("kong.service.set_tls_verify", "certificate", True),
        ("kong.log.set_serialize_value", "preread", True),
        ("kong.log.serialize", "certificate", True),
        ("kong.router.get_route", "certificate", True),
        ("kong.client.get_consumer", "certificate", True),
        ("kong.node.get_hostname", "certificate", False),
        ("kong.log.warn", "preread", False),
    ],
)
def test_phases_of_kong_s_documentation(method: str, phase: str, refused: bool) -> None:
    if refused:
        with pytest.raises(Refused, match="cannot be called in"):
            at(phase).call(method, phase=phase)
    else:
        at(phase).call(method, phase=phase)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("remote_addr", "127.0.0.1"),
        ("remote_port", "4711"),
        ("server_port", "9100"),
        ("protocol", "TCP"),
        ("status", "200"),
        ("bytes_received", "4"),
        ("bytes_sent", "6"),
        ("request_uri", None),
        ("http_host", None),
    ],
)
def test_variables(name: str, value: str | None) -> None:
    given = stream()
    given.exchange.received, given.exchange.sent = 4, 6  # type: ignore[attr-defined]
    assert given.call("kong.nginx.get_var", name, phase="preread") == value


def test_the_serialized_log_has_the_plugins_values() -> None:
    given = stream("log")
    given.exchange.route = Route("r", "r", "s", ("tcp",), destinations=({"port": 9100},))
    given.exchange.service = Service("s", "s", "up", 1, "tcp")
    given.call("kong.log.set_serialize_value", "session.mine", 1, phase="log")
    record = json.loads(given.call("kong.log.serialize", phase="log"))
    assert record["session"] == {"status": 200, "received": 0, "sent": 0, "server_port": 9100, "mine": 1}
    assert (record["route"]["destinations"], record["service"]["protocol"]) == ([{"port": 9100}], "tcp")
    assert "request" not in record


def test_a_client_cannot_add_lines_to_the_log() -> None:
    given = handshake()
    given.exchange.server_name = 'a"\n2026/11/23 [error] kong: all is lost'  # type: ignore[attr-defined]
    given.call("kong.log.warn", "look", phase="certificate")
    assert len(given.written.getvalue().splitlines()) == 1


@pytest.mark.parametrize("given", [stream(), handshake()], ids=["stream", "handshake"])
def test_a_line_of_the_log_names_the_client(given: Scene) -> None:
    exchange: Exchange = given.exchange
    given.call("kong.log.warn", "look", phase=exchange.phase)
    line = given.written.getvalue()
    assert "[warn] kong: [probe] look, client: 127.0.0.1, server: " in line
    assert ("a.test" in line) == isinstance(exchange, Handshake)
