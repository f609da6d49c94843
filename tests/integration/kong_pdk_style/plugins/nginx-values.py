#!/usr/bin/env python3
"""What plugin servers can ask of nginx."""

import time

version = "0.1.0"
priority = 0


class Plugin:
    def __init__(self, config):
        self.config = config

    def rewrite(self, kong):
        kong.nginx.set_ctx("nginx_values_began", "in rewrite")

    def access(self, kong):
        uri, err = kong.nginx.get_var("request_uri")
        kong.response.set_header("x-uri", repr((uri, err)))
        kong.response.set_header("x-no-such", repr(kong.nginx.get_var("no_such_variable")))
        kong.response.set_header("x-subsystem", kong.nginx.get_subsystem()[0])
        kong.response.set_header("x-tls", repr(kong.nginx.get_tls1_version_str()))
        began, _ = kong.nginx.req_start_time()
        kong.response.set_header("x-recent", repr(abs(time.time() - began) < 60))
        kong.nginx.set_ctx("nginx_values", "of access")
        kong.response.set_header("x-ctx", repr(kong.nginx.get_ctx("nginx_values")))
        kong.response.set_header("x-no-ctx", repr(kong.nginx.get_ctx("no_such_key")))

    def response(self, kong):
        kong.response.set_header("x-later-ctx", repr(kong.nginx.get_ctx("nginx_values")))


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("nginx-values", Plugin, version, priority)
