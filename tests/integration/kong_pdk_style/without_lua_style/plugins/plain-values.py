#!/usr/bin/env python3
"""Written for a server with --no-lua-style: a call gives its value, and raises where it cannot."""

import kong_pdk.pdk.kong as kong

version = "0.1.0"
priority = 0


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong: kong.kong):
        kong.response.set_header("x-method", kong.request.get_method())
        kong.response.set_header("x-missing", repr(kong.request.get_header("x-missing")))
        kong.ctx.shared.set("kept", "value")
        kong.response.set_header("x-kept", repr(kong.ctx.shared.get("kept")))
        try:
            kong.response.get_source()
        except Exception as ex:
            kong.response.set_header("x-refused", str(ex))


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("plain-values", Plugin, version, priority)
