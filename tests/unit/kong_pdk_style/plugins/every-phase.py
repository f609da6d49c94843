#!/usr/bin/env python3
"""A handler for every phase that there is."""

version = "3.2.1"
priority = -5


class Plugin:
    def __init__(self, config):
        self.config = config

    def certificate(self, kong):
        print("every-phase: certificate", kong.client.tls is not None)

    def rewrite(self, kong):
        kong.ctx.shared.set("phases", "rewrite")

    def access(self, kong):
        kong.ctx.shared.set("phases", kong.ctx.shared.get("phases")[0] + " access")

    def response(self, kong):
        phases = kong.ctx.shared.get("phases")[0] + " response"
        kong.ctx.shared.set("phases", phases)
        kong.response.set_header("x-phases", phases)

    def preread(self, kong):
        subsystem, _ = kong.nginx.get_subsystem()
        print("every-phase: preread of", subsystem)

    def log(self, kong):
        subsystem, _ = kong.nginx.get_subsystem()
        print("every-phase: log of", subsystem, "after", kong.ctx.shared.get("phases")[0])


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("every-phase", Plugin, version, priority)
