#!/usr/bin/env python3
"""State of the module, behind a lock: all requests of a process, whatever the configuration."""

import collections
import os
import threading

lock = threading.Lock()
seen = collections.Counter()

Schema = ({"name": {"type": "string", "required": True, "default": "all"}},)
version = "0.1.0"
priority = 100


class Plugin:
    def __init__(self, config):
        self.name = config["name"]

    def access(self, kong):
        with lock:
            seen[self.name] += 1
            total = sum(seen.values())
        kong.response.set_header("x-count", str(seen[self.name]))
        kong.response.set_header("x-total", str(total))
        kong.response.set_header("x-pid", str(os.getpid()))


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("request-counter", Plugin, version, priority, Schema)
