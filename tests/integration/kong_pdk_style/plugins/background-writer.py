#!/usr/bin/env python3
"""A thread of its own, started by the first instance, goes on working between events."""

import queue
import threading
import time

entries = queue.Queue()
written = []
lock = threading.Lock()
thread = None

version = "0.1.0"
priority = 10


def write():
    while True:
        entry = entries.get()
        time.sleep(0.01)
        written.append(entry)
        print("background-writer wrote", entry)


def start():
    global thread
    with lock:
        if thread is None:
            thread = threading.Thread(target=write, daemon=True)
            thread.start()


class Plugin:
    def __init__(self, config):
        start()

    def access(self, kong):
        kong.response.set_header("x-written", " ".join(written))

    def log(self, kong):
        entry, _ = kong.request.get_header("x-entry")
        if entry:
            entries.put(entry)


if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server

    start_dedicated_server("background-writer", Plugin, version, priority)
