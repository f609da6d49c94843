#!/usr/bin/env python3
"""Reads what another plugin has left, and leaves an answer."""

version = "0.1.0"
priority = 100


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        user, err = kong.ctx.shared.get("user")
        number, _ = kong.ctx.shared.get("number")
        table, _ = kong.ctx.shared.get("table")
        nothing, _ = kong.ctx.shared.get("nothing")
        kong.response.set_header("x-shared", repr((user, err, number, table, nothing)))
        kong.ctx.shared.set("answer", user.upper())

    def response(self, kong):
        kong.response.set_header("x-answer", kong.ctx.shared.get("answer")[0])


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("shared-reader", Plugin, version, priority)
