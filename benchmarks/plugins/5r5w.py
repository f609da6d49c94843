"""Five values read, five headers set: a plugin of the usual size."""


class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        for _ in range(5):
            host, _ = kong.request.get_header("host")
            kong.response.set_header("x-host", host)
