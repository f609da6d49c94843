"""A handler that waits for another service for 100 ms."""

import time


class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        time.sleep(0.1)
