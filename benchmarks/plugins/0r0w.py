"""A handler that does nothing: what an event itself costs."""


class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        pass
