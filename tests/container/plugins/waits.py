"""Answers a request to /wait when the file /tmp/go exists."""

import time
from pathlib import Path

import kong_pdk.pdk.kong as kong

version = "1.0.0"
priority = 30


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong: kong.kong):
        path, _err = kong.request.get_path()
        if path != "/wait":
            return
        kong.log.notice("waits: the request is here")
        while not Path("/tmp/go").exists():
            time.sleep(0.01)
        kong.response.exit(200, "waited to the end")
