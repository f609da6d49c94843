"""The whole body of a request, 64 KiB."""


class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        body, _ = kong.request.get_raw_body()
        kong.response.set_header("x-length", str(len(body)))
