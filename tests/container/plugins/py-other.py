#!/usr/bin/env python3
"""A plugin that is its own server, for Kong to start."""

import kong_pdk.pdk.kong as kong

Schema = ({"note": {"type": "string", "default": "none"}},)
version = "2.0.0"
priority = 10


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong: kong.kong):
        kong.response.set_header("x-other", self.config["note"])


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("py-other", Plugin, version, priority, Schema)
