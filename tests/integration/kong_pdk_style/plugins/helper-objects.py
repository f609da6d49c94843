#!/usr/bin/env python3
"""The PDK object goes through many hands: a base class, functions, another object, and the plugin itself."""

import kong_pdk.pdk.kong as kong
from kong_pdk.pdk.kong import kong as Kong

Schema = ({"realm": {"type": "string", "default": "staff"}},)
version = "1.0.0"
priority = 5000


def client_of(kong: Kong) -> str:
    return kong.request.get_header("user-agent")[0]


class Headers:
    def __init__(self, kong):
        self.response = kong.response
        self.set = kong.response.set_header

    def write(self, **values):
        for name, value in values.items():
            self.set("x-" + name.replace("_", "-"), value)
        self.response.add_header("x-written", str(len(values)))


class Reports:
    def report(self, text):
        self.kong.log.notice("helper-objects: ", text)


class Plugin(Reports):
    def __init__(self, config):
        self.config = config
        self.kong = None

    def access(self, kong: kong.kong):
        self.kong = kong
        try:
            self.decide()
        except Exception as ex:
            kong.log.err("it failed: ", str(ex))
            raise

    def decide(self):
        headers = Headers(self.kong)
        headers.write(client=client_of(self.kong), realm=self.config["realm"])
        self.report("it is " + client_of(self.kong))
        try:
            int(self.kong.request.get_header("x-number")[0] or "none")
        except ValueError as ex:
            self.kong.log.err("helper-objects caught: ", ex)
        if self.kong.request.get_header("x-deny")[0]:
            return self.deny()
        return None

    def deny(self):
        return self.kong.response.exit(403, {"message": "denied", "realm": self.config["realm"]}, {"x-denied": "yes"})


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("helper-objects", Plugin, version, priority, Schema)
