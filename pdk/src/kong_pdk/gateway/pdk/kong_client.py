"""``kong.client`` and ``kong.client.tls``: the client's address, certificate, consumer and credential."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from kong_pdk.gateway.entities import Consumer, Credential
from kong_pdk.gateway.exchange import Exchange, Refused
from kong_pdk.gateway.pdk import headers
from kong_pdk.gateway.pdk.checks import lua_type, string
from kong_pdk.gateway.pdk.dispatch import Event, function
from kong_pdk.gateway.pdk.kong_request import current_headers, from_trusted


def _address(text: str) -> tuple[str, int | None] | None:
    """An address in a forwarding header, and its port if it has one; None if the text is not an IP address."""
    text = text.strip()
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return host, int(port) if port.isascii() and port.isdigit() else None


def _forwarded(exchange: Exchange) -> tuple[str, int | None] | None:
    """The client behind trusted proxies, by the rules of nginx's realip module; None if there is none."""
    settings, peer = exchange.node.settings, exchange.request.client_ip
    if not settings.trusted(peer):
        return None
    header = headers.get(current_headers(exchange), settings.real_ip_header)
    client: tuple[str, int | None] | None = None
    for text in reversed((header or "").split(",")):
        address = _address(text)
        if address is None:
            break
        client = address
        if not (settings.real_ip_recursive and settings.trusted(address[0])):
            break
    return client


@function("kong.client.get_ip")
def get_ip(event: Event) -> str:
    return event.exchange.request.client_ip


@function("kong.client.get_forwarded_ip")
def get_forwarded_ip(event: Event) -> str:
    client = _forwarded(event.exchange)
    return client[0] if client else get_ip(event)


@function("kong.client.get_port")
def get_port(event: Event) -> int:
    return event.exchange.request.client_port


@function("kong.client.get_forwarded_port")
def get_forwarded_port(event: Event) -> int | None:
    """The client's port; None if a proxy sends only its address."""
    client = _forwarded(event.exchange)
    return client[1] if client else get_port(event)


@function("kong.client.get_credential")
def get_credential(event: Event) -> dict[str, object] | None:
    credential = event.exchange.credential
    return None if credential is None else credential.to_dict()


@function("kong.client.get_consumer")
def get_consumer(event: Event) -> dict[str, object] | None:
    consumer = event.exchange.consumer
    return None if consumer is None else consumer.to_dict()


@function("kong.client.load_consumer")
def load_consumer(event: Event, consumer_id: object = None, by_username: object = None) -> dict[str, object] | None:
    """A consumer by id, or also by username; None if it does not exist."""
    name = string("consumer_id", consumer_id)
    if not name:
        raise Refused("consumer_id must not be an empty string")
    consumer = event.exchange.node.config.consumer(name, by_username not in (None, False))
    return None if consumer is None else consumer.to_dict()


@function("kong.client.authenticate")
def authenticate(event: Event, consumer: object = None, credential: object = None) -> None:
    """Set consumer and credential. Raises Refused if both are nil."""
    if consumer is None and credential is None:
        raise Refused("either credential or consumer must be provided")
    for name, value in (("consumer", consumer), ("credential", credential)):
        if value is not None and not isinstance(value, dict):
            raise Refused(f"{name} must be a table or nil, got {lua_type(value)}")
    event.exchange.consumer = _consumer(consumer) if isinstance(consumer, dict) else None
    event.exchange.credential = _credential(credential) if isinstance(credential, dict) else None


def _text(table: Mapping[str, Any], name: str) -> str | None:
    value = table.get(name)
    return value if isinstance(value, str) else None


def _consumer(table: Mapping[str, Any]) -> Consumer:
    tags = table.get("tags")
    times = [value if isinstance(value, int) else 0 for value in (table.get("created_at"), table.get("updated_at"))]
    return Consumer(
        id=_text(table, "id") or "",
        username=_text(table, "username"),
        custom_id=_text(table, "custom_id"),
        tags=tuple(str(tag) for tag in tags) if isinstance(tags, list) else None,
        created_at=times[0],
        updated_at=times[1],
    )


def _credential(table: Mapping[str, Any]) -> Credential:
    extra = {name: value for name, value in table.items() if name != "id"}
    return Credential(id=_text(table, "id"), extra=extra)


@function("kong.client.get_protocol")
def get_protocol(event: Event, allow_terminated: object = None) -> str | None:
    """The protocol by which the client reached the route; None without a route."""
    exchange = event.exchange
    if exchange.route is None:
        return None
    if len(exchange.route.protocols) == 1:
        return exchange.route.protocols[0]
    if allow_terminated not in (None, False):
        scheme = from_trusted(exchange, "x-forwarded-proto")
        if scheme is not None and scheme.lower() == "https":
            return "https"
    return exchange.request.scheme


_VERDICTS = ("SUCCESS", "NONE")


@function("kong.client.tls.request_client_certificate")
def request_client_certificate(event: Event) -> bool:
    event.log("notice", "kong.client.tls.request_client_certificate: the embedded gateway asks for no certificate")
    return True


@function("kong.client.tls.disable_session_reuse")
def disable_session_reuse(event: Event) -> bool:
    event.log("notice", "kong.client.tls.disable_session_reuse: the embedded gateway leaves sessions as they are")
    return True


@function("kong.client.tls.get_full_client_certificate_chain")
def get_full_client_certificate_chain(event: Event) -> str | None:
    return None


@function("kong.client.tls.set_client_verify")
def set_client_verify(event: Event, verdict: object = None) -> None:
    """Check the argument. In every phase that plugin servers have, Kong refuses the call."""
    if not isinstance(verdict, str):
        raise Refused(f"verdict must be a string, got {lua_type(verdict)}")
    if verdict not in _VERDICTS and not verdict.startswith("FAILED:"):
        raise Refused(f"unknown client verify value: {verdict}; it is 'SUCCESS', 'NONE' or 'FAILED:reason'")
