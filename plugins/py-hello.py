"""A first plugin: it greets in a header of each response. Copy this file and change it."""

from __future__ import annotations

import os
from typing import Any

# For type hints only: calls to Kong go through the argument of the handler, which has the same name.
import kong_pdk.pdk.plain as kong

# The fields that kong.yml may set for this plugin. Kong checks their values and fills in the defaults.
Schema = [{"message": {"type": "string", "required": True, "default": "hello"}}]
version = "0.1.0"
# Plugins with a higher priority run first.
priority = 0
# PDK calls return a value and raise PDKError. Without this line they return (value, err), as in Lua.
lua_style = False


class Plugin:
    """A configuration of the plugin. The instance serves all requests with this configuration."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.message: str = config["message"]

    def access(self, kong: kong.kong) -> None:
        """Handle a request before it goes to the service. Kong keeps the headers for the response."""
        host = kong.request.get_header("host")
        kong.response.set_header("x-hello-from-python", f"Python says {self.message} to {host}")
        # The process that runs this handler. It changes when the plugin server is started again.
        kong.response.set_header("x-python-pid", str(os.getpid()))
