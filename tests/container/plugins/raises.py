"""Fails if the request asks for it."""

import kong_pdk.pdk.kong as kong

version = "1.0.0"
priority = 20


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong: kong.kong):
        wish, _err = kong.request.get_header("x-raise")
        if wish:
            raise ValueError(f"the request asked for {wish}")
        kong.response.set_header("x-did-not-raise", "yes")
