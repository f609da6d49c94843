"""One value read from the request, one header set: a small plugin."""


class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        host, _ = kong.request.get_header("host")
        kong.response.set_header("x-host", host)
