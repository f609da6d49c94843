#!/usr/bin/env python3
"""A handler for every phase that there is."""

version = "3.2.1"
priority = -5


class Plugin:
    def __init__(self, config):
        self.config = config

    def certificate(self, kong):
        print("every-phase: certificate in", kong.nginx.get_subsystem()[0])

    def rewrite(self, kong):
        kong.ctx.shared.set("phases", "rewrite")

    def access(self, kong):
        kong.ctx.shared.set("phases", kong.ctx.shared.get("phases")[0] + " access")

    def response(self, kong):
        phases = kong.ctx.shared.get("phases")[0] + " response"
        kong.ctx.shared.set("phases", phases)
        kong.response.set_header("x-phases", phases)

    def preread(self, kong):
        kong.ctx.shared.set("phases", "preread")

    def log(self, kong):
        phases, _ = kong.ctx.shared.get("phases")
        print("every-phase: log in", kong.nginx.get_subsystem()[0], "after", phases)


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("every-phase", Plugin, version, priority)
