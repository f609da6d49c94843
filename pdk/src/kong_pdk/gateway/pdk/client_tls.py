"""``kong.client.tls``: the TLS between the client and the gateway, which asks no client for a certificate."""

from __future__ import annotations

from kong_pdk.gateway.exchange import Refused
from kong_pdk.gateway.pdk.calls import Event, function
from kong_pdk.gateway.pdk.checks import lua_type

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
    """Kong refuses it in every phase that plugin servers have; a verdict is one of nginx's three."""
    if not isinstance(verdict, str):
        raise Refused(f"verdict must be a string, got {lua_type(verdict)}")
    if verdict not in _VERDICTS and not verdict.startswith("FAILED:"):
        raise Refused(f"unknown client verify value: {verdict}; it is 'SUCCESS', 'NONE' or 'FAILED:reason'")
