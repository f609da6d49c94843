"""Calls in the phases without an HTTP request that were not measured on a real Kong: what its documentation says.

Prefixes of names; what begins with none of them works on anything.
"""

from __future__ import annotations

# They need a request over HTTP, which neither a TCP connection nor a TLS handshake is.
_HTTP_ALONE = (
    "kong.client.tls.",
    "kong.request.",
    "kong.response.",
    "kong.service.request.",
    "kong.service.response.",
)
# They work when there is a route and a client that may be known, and are over when the session is.
_ACCESS_ALONE = ("kong.client.authenticate", "kong.service.")
_FROM_ACCESS_ON = ("kong.client.get_credential", "kong.client.load_consumer", "kong.log.set_serialize_value")
_PREREAD_TOO = frozenset(
    {"kong.service.request.disable_tls", "kong.service.set_tls_verify", "kong.service.set_tls_verify_depth"}
)
# A handshake has neither a route nor a client with a name.
_BEFORE_REQUESTS = ("kong.client.", "kong.log.serialize", "kong.log.set_serialize_value", "kong.router.")


def refused(method: str, phase: str, subsystem: str) -> bool:
    """Whether Kong refuses a call in a phase of its own (``certificate``) or of the stream subsystem."""
    if phase == "certificate":
        return method.startswith((*_HTTP_ALONE, *_BEFORE_REQUESTS, *_ACCESS_ALONE))
    if subsystem == "http":
        return False
    if phase == "preread":
        return method not in _PREREAD_TOO and method.startswith((*_HTTP_ALONE, *_ACCESS_ALONE, *_FROM_ACCESS_ON))
    return method.startswith((*_HTTP_ALONE, *_ACCESS_ALONE))
