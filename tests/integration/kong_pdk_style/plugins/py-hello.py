#!/usr/bin/env python3
"""The parts of the example that Kong documents: an optional field, a header, (value, err), and a server of its own."""

import os

import kong_pdk.pdk.kong as kong

Schema = ({"message": {"type": "string"}},)
version = "0.1.0"
priority = 0


class Plugin(object):  # noqa: UP004 - a base class that plugins of this age write
    def __init__(self, config):
        self.config = config

    def access(self, kong: kong.kong):
        host, err = kong.request.get_header("host")
        if err:
            kong.log.err("no host: ", err)
        greeting = self.config["message"] if "message" in self.config else "hello"  # noqa: SIM401
        kong.response.set_header("x-hello-from-python", "Python says {} to {}".format(greeting, host))  # noqa: UP032
        kong.response.set_header("x-python-pid", str(os.getpid()))


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("py-hello", Plugin, version, priority, Schema)
