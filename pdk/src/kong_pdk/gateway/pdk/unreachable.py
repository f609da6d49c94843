"""Functions of Kong's PDK that answer a plugin server with an error, whatever it sends.

They belong to phases that plugin servers do not have, or take what only Lua can make: a function, a C pointer.
"""

from __future__ import annotations

from typing import Any, NoReturn

from kong_pdk.gateway.exchange import Refused
from kong_pdk.gateway.pdk.calls import Event, function

_PHASES = {
    "kong.client.tls.disable_http2_alpn": "client_hello",
    "kong.response.set_raw_body": "body_filter",
    "kong.response.get_raw_body": "body_filter",
}
_ARGUMENTS = {
    "kong.service.set_target_retry_callback": "retry_callback must be a function",
    "kong.service.set_tls_cert_key": "chain must be a parsed cdata object",
    "kong.service.set_tls_verify_store": "store must be a table of X.509 certificates that Lua has read",
    "kong.vault.try": "callback must be a function",
}


def _refuser(reason: str) -> Any:
    def refuse(event: Event, *args: object) -> NoReturn:
        raise Refused(reason.format(phase=event.phase))

    return refuse


for _name, _phase in _PHASES.items():
    function(_name)(_refuser(f"{_name} cannot be called in {{phase}} phase (only in: {_phase})"))
for _name, _reason in _ARGUMENTS.items():
    function(_name)(_refuser(f"{_name}: {_reason}"))
