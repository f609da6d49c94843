"""Sets a response header to the greeting in the configuration."""

Schema = ({"greeting": {"type": "string", "default": "hello"}},)
version = "1.0.0"
priority = 0


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        kong.response.set_header("x-greeting", self.config["greeting"])
