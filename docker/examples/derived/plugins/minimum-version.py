"""Refuses clients that are too old: 400, with the version that is needed.

A client names its version in a header. A client without the header, or with a value that is not a version, is refused.
"""

from packaging.version import InvalidVersion, Version

Schema = (
    {"minimum": {"type": "string", "required": True, "match": "^%d[%d.]*$"}},
    {"header": {"type": "string", "required": True, "default": "x-client-version"}},
)
version = "1.0.0"
priority = 900


class Plugin:
    def __init__(self, config):
        self.minimum = Version(config["minimum"])
        self.header = config["header"]

    def access(self, kong):
        given, _ = kong.request.get_header(self.header)
        if not self.is_recent(given):
            needed = f"{self.header}: {self.minimum} or later is needed"
            kong.response.exit(400, {"message": needed})

    def is_recent(self, given):
        try:
            return given is not None and Version(given) >= self.minimum
        except InvalidVersion:
            return False
