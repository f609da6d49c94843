"""What can go wrong between the gateway and a plugin server."""

from __future__ import annotations


class PluginServerError(Exception):
    """The gateway cannot start with these plugin servers; in Kong's words."""


class PluginFailed(Exception):
    """A plugin could not be run: Kong answers the client 500."""


class Unreachable(Exception):
    """No connection to the plugin server, or no answer in time."""


class Closed(Exception):
    """The plugin server closed the connection before it had answered."""


class RpcError(Exception):
    """The plugin server answered a MsgPack:1 request with an error."""
