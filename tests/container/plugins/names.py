"""Answers every request with the name of its node, after a moment in which the request is in flight."""

import os
import time

import kong_pdk.pdk.plain as kong

version = "1.0.0"
priority = 20
lua_style = False


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong: kong.kong):
        time.sleep(0.02)
        kong.response.exit(200, os.environ["NODE"])
