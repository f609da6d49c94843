#!/usr/bin/env python3
"""A configuration with fields of every common type."""

import json

Schema = (
    {"text": {"type": "string", "required": True, "default": "plain", "len_min": 1}},
    {"choice": {"type": "string", "one_of": ["red", "green"], "default": "red"}},
    {"count": {"type": "integer", "between": [0, 100], "default": 3}},
    {"ratio": {"type": "number", "default": 0.5}},
    {"flag": {"type": "boolean", "default": True}},
    {"names": {"type": "array", "elements": {"type": "string"}, "default": ["a", "b"]}},
    {"kinds": {"type": "set", "elements": {"type": "string", "one_of": ["x", "y"]}}},
    {"limits": {"type": "map", "keys": {"type": "string"}, "values": {"type": "integer"}, "default": {"m": 1}}},
    {
        "server": {
            "type": "record",
            "fields": [
                {"host": {"type": "string", "default": "localhost"}},
                {"port": {"type": "integer", "default": 80}},
            ],
        }
    },
    {"nothing": {"type": "string"}},
)
version = "0.1.0"
priority = 0


class Plugin(object):  # noqa: UP004 - as it stands in Kong's documentation
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        given = {name: value for name, value in self.config.items() if value is not None}
        kong.response.set_header("x-config", json.dumps(given, sort_keys=True))
        kong.response.set_header("x-nothing", repr(self.config.get("nothing")))


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("schema-fields", Plugin, version, priority, Schema)
