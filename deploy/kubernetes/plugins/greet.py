"""Greets: sets a response header to what the configuration says."""

Schema = ({"greeting": {"type": "string", "default": "hello"}},)
version = "1.0.0"
priority = 0


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        kong.response.set_header("x-greeting", self.config["greeting"])
