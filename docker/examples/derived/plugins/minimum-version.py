"""Refuses clients that are too old with a 400, which names the required version.

A client sends its version in a header. A client without a valid version is too old, too.
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
        sent, _ = kong.request.get_header(self.header)
        if not self.is_recent(sent):
            needed = f"{self.header}: {self.minimum} or later is needed"
            kong.response.exit(400, {"message": needed})

    def is_recent(self, sent):
        try:
            return sent is not None and Version(sent) >= self.minimum
        except InvalidVersion:
            return False
