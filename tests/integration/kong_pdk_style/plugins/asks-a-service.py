#!/usr/bin/env python3
"""Asks a service of its own, by the standard library's client, before Kong asks the real one."""

import http.client
import json
import urllib.request

Schema = (
    {"host": {"type": "string", "required": True}},
    {"port": {"type": "integer", "required": True}},
)
version = "0.1.0"
priority = 1000

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Plugin:
    def __init__(self, config):
        self.host = config["host"]
        self.port = config["port"]

    def access(self, kong):
        path, err = kong.request.get_path()
        if err:
            kong.log.err("no path: ", err)
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request("GET", "/asked?by=http.client", headers={"x-path": path})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        with opener.open(f"http://{self.host}:{self.port}/asked?by=urllib", timeout=10) as response:
            second = json.loads(response.read())
        kong.service.request.set_header("x-first", answer["path"] + " " + answer["headers"]["x-path"])
        kong.service.request.set_header("x-second", second["path"])


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("asks-a-service", Plugin, version, priority, Schema)
