#!/usr/bin/env python3
"""A pool of threads inside a handler; several of them call the PDK at the same time."""

from concurrent.futures import ThreadPoolExecutor

version = "0.1.0"
priority = 0

NAMES = ("x-a", "x-b", "x-c", "x-d", "x-e", "x-f", "x-g", "x-h")
pool = None


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        with ThreadPoolExecutor(max_workers=4) as local:
            values = list(local.map(lambda name: kong.request.get_header(name)[0], NAMES))
            list(local.map(lambda name: kong.response.set_header("x-said-" + name[2:], name), NAMES))
        kong.response.set_header("x-values", " ".join(values))

    def response(self, kong):
        global pool
        if pool is None:
            pool = ThreadPoolExecutor(max_workers=2)
        status = pool.submit(lambda: kong.service.response.get_status()[0]).result(10)
        kong.response.set_header("x-status", str(status))


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("thread-pool", Plugin, version, priority)
