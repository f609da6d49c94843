"""Kong's plugin development kit, typed: ``import kong_pdk.pdk.kong as kong`` and ``def access(self, kong: kong.kong)``.

The module has types and no values: calls go through the ``kong`` argument of a handler, and return ``(value, error)``.
:mod:`kong_pdk.pdk.plain` has the same types for plugins without Lua style. The functions of the class ``kong``, and of
a ``kong()`` that a unit test makes, do nothing and return None.
"""

from __future__ import annotations

import sys

from kong_pdk.pdk.kong.client import Client, ClientTls
from kong_pdk.pdk.kong.cluster import Cluster
from kong_pdk.pdk.kong.ctx import Ctx, Shared
from kong_pdk.pdk.kong.ip import Ip
from kong_pdk.pdk.kong.log import Inspect, Log
from kong_pdk.pdk.kong.namespace import Namespace, Part
from kong_pdk.pdk.kong.nginx import Nginx
from kong_pdk.pdk.kong.node import Node
from kong_pdk.pdk.kong.plugin import Plugin
from kong_pdk.pdk.kong.request import Request
from kong_pdk.pdk.kong.response import Response
from kong_pdk.pdk.kong.router import Router
from kong_pdk.pdk.kong.service import Service
from kong_pdk.pdk.kong.service_request import ServiceRequest
from kong_pdk.pdk.kong.service_response import ServiceResponse
from kong_pdk.pdk.kong.telemetry import Telemetry
from kong_pdk.pdk.kong.unconnected import Types
from kong_pdk.pdk.kong.vault import Vault

# Without Plugin: `from kong_pdk.pdk.kong import *` must keep the class of this name that the author defines.
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


class kong(Namespace):
    """Kong's plugin development kit, the argument of a handler. It may be passed on to any function."""

    client = Part(Client)
    cluster = Part(Cluster)
    ctx = Part(Ctx)
    ip = Part(Ip)
    log = Part(Log)
    nginx = Part(Nginx)
    node = Part(Node)
    plugin = Part(Plugin)
    request = Part(Request)
    response = Part(Response)
    router = Part(Router)
    service = Part(Service)
    telemetry = Part(Telemetry)
    vault = Part(Vault)


# A call on the import, `kong.log.err(...)` outside of a handler, gets an error message.
for _part in [name for name in vars(kong) if not name.startswith("_")]:
    sys.modules[f"{__name__}.{_part}"].__class__ = Types
