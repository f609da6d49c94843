#!/usr/bin/env python3
"""Lua's way: each call gives a value and an error."""

import kong_pdk.pdk.kong as kong

version = "0.1.0"
priority = 0


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong: kong.kong):
        method, err = kong.request.get_method()
        if err:
            kong.log.err("cannot get the method: ", err)
        missing, err = kong.request.get_header("x-missing")
        headers, _ = kong.request.get_headers()
        query, _ = kong.request.get_query()
        port, _ = kong.request.get_port()
        result = kong.response.set_header("x-method", method)
        kong.response.set_header("x-missing", repr((missing, err)))
        kong.response.set_header("x-two", ",".join(headers["x-two"]))
        kong.response.set_header("x-query", repr(sorted(query.items())))
        kong.response.set_header("x-port", type(port).__name__)
        kong.response.set_header("x-result", repr(result))


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("lua-tuples", Plugin, version, priority)
