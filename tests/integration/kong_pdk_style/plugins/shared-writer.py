#!/usr/bin/env python3
"""Leaves values for the plugins behind it, and for its own later phases."""

version = "0.1.0"
priority = 200


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        kong.ctx.shared.set("user", "alice")
        kong.ctx.shared.set("number", 7)
        kong.ctx.shared.set("table", {"name": "value", "list": [1, 2]})

    def response(self, kong):
        kong.response.set_header("x-own", kong.ctx.shared.get("user")[0])

    def log(self, kong):
        print("shared-writer logged", kong.ctx.shared.get("answer")[0])


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("shared-writer", Plugin, version, priority)
