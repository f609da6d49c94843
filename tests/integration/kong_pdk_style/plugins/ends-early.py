#!/usr/bin/env python3
"""Ends requests from within helpers; nothing runs after that but what is in a finally block."""

import threading

version = "0.1.0"
priority = 0

lock = threading.Lock()


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        how, _ = kong.request.get_header("x-how")
        with lock:  # it is free again for the next request
            try:
                self.end(kong, how)
            finally:
                print("ends-early: cleaned up after", how)
            kong.response.set_header("x-after", "the handler went on")

    def end(self, kong, how):
        if how == "exit":
            return kong.response.exit(418, "short and stout")
        if how == "empty":
            kong.response.exit(204)
        elif how == "raise":
            raise ValueError("it was asked for")
        elif how == "caught":
            try:
                kong.response.exit(409, {"list": [1, 2], "text": "é"})
            except Exception as ex:
                kong.log.err("never: ", str(ex))
        return None


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("ends-early", Plugin, version, priority)
