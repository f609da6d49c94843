"""Writes into the log in each way that a plugin has."""

import sys

import kong_pdk.pdk.kong as kong

version = "1.0.0"
priority = 40

print("speaks: loaded")


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong: kong.kong):
        print("speaks: on standard output")
        print("speaks: on standard error", file=sys.stderr)
        kong.log.notice("speaks: through Kong")
