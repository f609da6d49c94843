#!/usr/bin/env python3
"""Reads and changes the bodies of request and response."""

import json

version = "0.1.0"
priority = 50


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        body, err = kong.request.get_raw_body()
        if err or not body:
            return
        given = json.loads(body)
        given["seen"] = True
        kong.service.request.set_raw_body(json.dumps(given))
        kong.service.request.set_header("content-type", "application/json")

    def response(self, kong):
        body, _ = kong.service.response.get_raw_body()
        status, _ = kong.service.response.get_status()
        answer = json.loads(body)
        kong.response.exit(status, json.dumps({"sent": json.loads(answer["body"])}), {"content-type": "text/json"})


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("changes-bodies", Plugin, version, priority)
