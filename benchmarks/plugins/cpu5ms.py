"""A handler that computes for some 5 ms."""


class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        total = 0
        for number in range(100_000):
            total += number
