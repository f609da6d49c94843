"""A denial with a JSON body."""


class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        kong.response.exit(403, {"message": "no access", "code": 1234}, {"x-denied-by": "benchmark"})
