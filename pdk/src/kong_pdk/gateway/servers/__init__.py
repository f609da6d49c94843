"""Kong's side of plugin servers: query commands, start commands, and calls over unix sockets."""

from kong_pdk.gateway.servers.external import ExternalPlugin, PluginServers
from kong_pdk.gateway.servers.failures import PluginServerError

__all__ = ["ExternalPlugin", "PluginServerError", "PluginServers"]
