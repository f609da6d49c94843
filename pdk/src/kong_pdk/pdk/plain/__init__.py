"""The PDK's types for a plugin without Lua style, whose calls give values and raise ``PDKError``.

``import kong_pdk.pdk.plain as kong`` and ``def access(self, kong: kong.kong)``, in a plugin with ``lua_style = False``.
The classes are those of :mod:`kong_pdk.pdk.kong`; what type checkers read of them here is in ``__init__.pyi``.
"""

from kong_pdk.pdk.kong import (
    Client,
    ClientTls,
    Cluster,
    Ctx,
    Inspect,
    Ip,
    Log,
    Namespace,
    Nginx,
    Node,
    Request,
    Response,
    Router,
    Service,
    ServiceRequest,
    ServiceResponse,
    Shared,
    Telemetry,
    Vault,
    kong,
)
from kong_pdk.pdk.kong.plugin import Plugin as Plugin  # not below: that name is the author's
from kong_pdk.pdk.kong.unconnected import refusal

__all__ = [
    "Client",
    "ClientTls",
    "Cluster",
    "Ctx",
    "Inspect",
    "Ip",
    "Log",
    "Namespace",
    "Nginx",
    "Node",
    "Request",
    "Response",
    "Router",
    "Service",
    "ServiceRequest",
    "ServiceResponse",
    "Shared",
    "Telemetry",
    "Vault",
    "kong",
]


def __getattr__(name: str) -> object:
    """Refuse ``kong.log.err(...)`` on the import."""
    if name in vars(kong) and not name.startswith("_"):
        raise refusal(f"kong.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
